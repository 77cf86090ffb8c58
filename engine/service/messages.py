"""What the daemon and its workers say to each other, beside `Detection`s."""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.inspect.judgement import Detection
from engine.sources.latency import Latency

# --- to a worker


@dataclass(frozen=True, slots=True)
class Start:
    """The first message: which queue to take packets from, and whether to drop any.

    `of_several`: other workers want to know of tags. `sends_packets`: what is detected is sent
    along. `max_flows`: how many are remembered, of TCP and of UDP. `mark_bits`: those of
    `ConnectionMarks`, 0 for none; `offload_after`: so many packets of a flow pass between two
    looks at what is settled.
    """

    queue_num: int
    of_several: bool
    monitor_only: bool
    fail_open: bool
    log_level: str
    sends_packets: bool
    max_flows: int
    mark_bits: int
    offload_after: int


@dataclass(frozen=True, slots=True)
class Load:
    """With a file: inspect with the RuleSet in it from now on, and say `Loaded`."""


@dataclass(frozen=True, slots=True)
class Ban:
    """A target is banned until a time (CLOCK_MONOTONIC, ns); 0 lifts its ban."""

    target: bytes
    until_ns: int


@dataclass(frozen=True, slots=True)
class AllBans:
    """With a file: a pickled tuple of targets and times as in `Ban`, and no others hold."""


@dataclass(frozen=True, slots=True)
class Allow:
    """With a file: a pickled tuple of the networks whose traffic passes, and no others."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Say `Dropped`, and then `Counters`."""


# --- from a worker, and to the others


@dataclass(frozen=True, slots=True)
class Tagged:
    """A signature has put a tag on a host, until a time (CLOCK_MONOTONIC, s)."""

    host: bytes
    name: str
    expires_s: float


# --- from a worker


@dataclass(frozen=True, slots=True)
class Loaded:
    """The RuleSet is in force; the first time, the queue is bound as well."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The worker cannot begin, and ends."""

    reason: str


@dataclass(frozen=True, slots=True)
class Detected:
    """Of one packet; `datagram` is that packet where it was asked for, else empty."""

    detections: tuple[Detection, ...]
    datagram: bytes


@dataclass(frozen=True, slots=True)
class Dropped:
    """Packets and bytes that were dropped for bans since the last time; maybe not all yet."""

    by_target: dict[bytes, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Counters:
    """Of one worker since it began; `flows` are those it remembers now."""

    packets: int = 0
    dropped: int = 0
    errors: int = 0
    flows: int = 0
    unreported: int = 0
    """Detections that the daemon was too busy to hear of: dropped, but not banned."""
    released: int = 0
    """How often a connection was left to the kernel, to pass or"""
    refused: int = 0
    """to be dropped."""
    latency: Latency = field(default_factory=Latency)

    def __add__(self, other: Counters) -> Counters:
        """Of two workers together."""
        return Counters(
            self.packets + other.packets,
            self.dropped + other.dropped,
            self.errors + other.errors,
            self.flows + other.flows,
            self.unreported + other.unreported,
            self.released + other.released,
            self.refused + other.refused,
            self.latency + other.latency,
        )
