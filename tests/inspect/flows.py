"""Flows for tests of turns, of tags and of the signatures of flows."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from engine.compiler.ruleset import RuleSet
from engine.fields.turns import HEAD_B, TURNS_WITH_BYTES, Turns
from engine.inspect.inspector import Inspector
from engine.inspect.packet import ACK, SYN, TCP, UDP, Packet, reverse
from tests.compiler.written import signature

CLIENT, SERVER = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])
THERE = CLIENT + SERVER + bytes([0, 9, 0, 1])
BACK = reverse(THERE)
SPACE = 1 << 32
BLOCK: dict[str, object] = {"action": "block"}


def rules(*rules: tuple[str, str, str, str, dict[str, object]]) -> RuleSet:
    """From (id, transport, inspect, condition, then)."""
    return RuleSet(
        [
            signature(when, name=name, transport=transport, inspect=inspect, then=then)
            if inspect != "flow"
            else signature(
                when, name=name, transport=transport, inspect=inspect, then=then, always=True
            )
            for name, transport, inspect, when, then in rules
        ]
    )


def following(when: str = "flow.packets == 0", action: str = "block") -> RuleSet:
    """Two signatures of flows, one for each transport; as it is, they never match."""
    return rules(*[(f"a.{t}", t, "flow", when, {"action": action}) for t in ("tcp", "udp")])


def datagram(payload: bytes, key: bytes = THERE) -> Packet:
    return Packet(UDP, key, payload, len(payload), 0, 0)


def segment(payload: bytes, sequence: int, key: bytes = THERE, flags: int = ACK) -> Packet:
    return Packet(TCP, key, payload, len(payload), sequence % SPACE, flags)


def answer(sequence: int, acknowledgement: int, key: bytes = BACK) -> Packet:
    """The SYN of who was asked."""
    return segment(b"", sequence, key, SYN | ACK)._replace(acknowledgement=acknowledgement % SPACE)


@dataclass
class Connection:
    """A TCP connection through an inspector, whose SYNs have been seen."""

    inspector: Inspector
    firsts: tuple[int, int] = (1000, 2000)

    def __post_init__(self) -> None:
        there, back = self.firsts
        self.inspector.judge(segment(b"", there - 1, THERE, SYN), 0)
        self.inspector.judge(answer(back - 1, there), 0)

    def send(self, client: bool, offset: int, payload: bytes, now_s: float = 0) -> list[str]:
        """Ids of what is detected."""
        first = self.firsts[0 if client else 1]
        packet = segment(payload, first + offset, THERE if client else BACK)
        return [d.signature for d in self.inspector.judge(packet, now_s).detections]

    @property
    def turns(self) -> Turns | None:
        return self.inspector._tcp.side(THERE).flow.turns


def told(turns: Turns) -> list[tuple[bool | None, int | None, bytes]]:
    return [(turns.from_client(n), turns.size(n), turns.head(n)) for n in range(turns.begun)]


def runs(events: Sequence[tuple[bool, bytes]]) -> list[tuple[bool, int, bytes]]:
    """The oracle: what is new, joined while one side sends."""
    joined = [
        (side, b"".join(data for _, data in run))
        for side, run in itertools.groupby(events, key=lambda event: event[0])
    ]
    return [
        (side, len(data), data[:HEAD_B] if n < TURNS_WITH_BYTES else b"")
        for n, (side, data) in enumerate(joined)
    ]
