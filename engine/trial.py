"""Tries a RuleSet on captures: what the daemon would say about each flow.

Packets go through the inspector that the daemon uses, with the capture's own
clock, and each capture meets a fresh inspector. Flows are reported by what the headers say,
whether anything is detected in them or not.
"""

from __future__ import annotations

import os
import signal
import stat
import struct
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, TypeVar

from engine.compiler.ruleset import RuleSet
from engine.errors import InputError
from engine.inspect.inspector import Inspector
from engine.inspect.judgement import ACCEPTED, Detection
from engine.inspect.packet import TCP, UDP, Endpoint, decode, reverse
from engine.language.form import STOPPING
from engine.sources.capture import Capture, looks_like_capture
from engine.truth import FlowKey

T = TypeVar("T")

_SUFFIXES: Final = (".pcap", ".pcapng", ".cap", ".pcap.gz", ".pcapng.gz", ".cap.gz")
_MAX_AT_ONCE: Final = 16
_STRENGTH: Final = {None: 0, "tag": 1, "log": 2, "drop": 3, "block": 4}


@dataclass(slots=True)
class FlowTrial:
    """A bidirectional flow of one capture and what was detected in it."""

    key: FlowKey
    packets: int = 0
    payload_packets: int = 0
    signatures: list[str] = field(default_factory=list)
    """The ids of all that matched, in the order they did."""
    first_payload_index: int | None = None
    """Counted from 0 among the packets with payload: the first to be blocked or dropped."""
    action: str | None = None
    """The strongest of "block", "drop", "log" and "tag"; None when nothing matched."""

    @property
    def detected(self) -> bool:
        """Whether traffic would be stopped; a match that is only noted stops nothing."""
        return self.first_payload_index is not None

    def add(self, detections: Iterable[Detection]) -> None:
        """Take in what was detected in the packet counted last."""
        for detection in detections:
            if detection.signature not in self.signatures:
                self.signatures.append(detection.signature)
            if _STRENGTH[detection.action] > _STRENGTH[self.action]:
                self.action = detection.action
            if detection.action in STOPPING and self.first_payload_index is None:
                self.first_payload_index = max(0, self.payload_packets - 1)

    def as_json(self) -> dict[str, Any]:
        return {
            "proto": self.key.proto,
            "a": self.key.a,
            "b": self.key.b,
            "packets": self.packets,
            "payload_packets": self.payload_packets,
            "detected": self.detected,
            "signatures": self.signatures,
            "first_payload_index": self.first_payload_index,
            "action": self.action,
        }


@dataclass(frozen=True, slots=True)
class CaptureTrial:
    """One capture, in the order its flows began."""

    path: Path
    packets: int
    """Frames with IP inside."""
    skipped: Mapping[str, int]
    """Frames without, by reason."""
    flows: Sequence[FlowTrial]
    error: str | None
    """What is wrong with the file; the flows are those before that point."""


def find_captures(given: Sequence[Path]) -> list[Path]:
    """The files given, and those in the folders given that are captures, each folder sorted.

    In a folder a file counts by its name's ending or its first bytes. Raises
    InputError for what does not exist and for a folder without captures.
    """
    captures: list[Path] = []
    for path in given:
        try:
            mode = path.stat().st_mode
        except OSError as err:
            raise InputError(f"{path}: cannot read: {err.strerror}") from err
        if not stat.S_ISDIR(mode):
            captures.append(path)
            continue
        inside = [
            file
            for file in sorted(path.rglob("*"))
            if file.is_file() and (file.name.endswith(_SUFFIXES) or looks_like_capture(file))
        ]
        if not inside:
            raise InputError(f"{path}: no captures in this folder")
        captures += inside
    return captures


# Of an IPv4 header without options and the transport header behind it: version and length,
# total length, fragment, protocol, addresses and ports, UDP's length.
_COMMON = struct.Struct(">BxHxxHxBxx12sHxx").unpack_from


def outline(datagram: bytes) -> tuple[int, bytes, bool] | None:
    """Protocol, key and whether there is payload, as `decode` has them, but sooner.

    None for what is neither TCP nor UDP.
    """
    if len(datagram) >= 40:
        first, total_len, fragment, protocol, key, udp_len = _COMMON(datagram)
        if first == 0x45 and not fragment & 0x3FFF and total_len == len(datagram):
            if protocol == TCP:
                body = 20 + (datagram[32] >> 4) * 4
                if 40 <= body <= total_len:
                    return TCP, key, body < total_len
            elif protocol == UDP and udp_len + 20 == total_len:
                return UDP, key, udp_len > 8
    packet = decode(datagram)
    return None if packet is None else (packet.protocol, packet.key, bool(packet.payload))


class FlowPackets:
    """The TCP and UDP packets of a capture, each with its flow, which counts it already.

    Iterate once: gives (now_s, datagram, whether it has payload, flow). A damaged file ends the
    iteration at the damage, which `error` then tells.
    """

    def __init__(self, path: Path) -> None:
        self.flows: list[FlowTrial] = []
        self._path = path
        self._packets = 0
        self._capture = Capture(path)
        self._error: str | None = None

    def __iter__(self) -> Iterator[tuple[float, bytes, bool, FlowTrial]]:
        # Both directions of a flow lead to the same object.
        directions: dict[int, dict[bytes, FlowTrial]] = {TCP: {}, UDP: {}}
        now_s = 0.0
        try:
            for timestamp_s, datagram in self._capture:
                self._packets += 1
                # Merged captures step back in time, and the inspector's clock must not.
                if timestamp_s > now_s:
                    now_s = timestamp_s
                found = outline(datagram)
                if found is None:  # the inspector would accept it unseen
                    continue
                protocol, key, has_payload = found
                flow = directions[protocol].get(key)
                if flow is None:
                    flow = FlowTrial(_flow_key(protocol, key))
                    directions[protocol][key] = directions[protocol][reverse(key)] = flow
                    self.flows.append(flow)
                flow.packets += 1
                flow.payload_packets += has_payload
                yield now_s, datagram, has_payload, flow
        except InputError as err:
            self._error = str(err)

    def result(self) -> CaptureTrial:
        """What has become of the capture; call it after the iteration."""
        return CaptureTrial(
            self._path, self._packets, self._capture.skipped, self.flows, self._error
        )


def _flow_key(protocol: int, key: bytes) -> FlowKey:
    ends = [
        Endpoint(each[: len(each) // 2 - 2], int.from_bytes(each[-4:-2], "big"))
        for each in (key, reverse(key))
    ]
    return FlowKey.between("tcp" if protocol == TCP else "udp", *map(str, ends))


def try_capture(path: Path, ruleset: RuleSet, *, isolate_flows: bool = False) -> CaptureTrial:
    """Inspect every packet of one capture; `isolate_flows`, each flow as if there were no other.

    No tag and no threshold then reaches from one flow to the next.
    """
    inspector = Inspector(ruleset)
    inspectors: defaultdict[FlowKey, Inspector] = defaultdict(lambda: Inspector(ruleset))
    packets = FlowPackets(path)
    for now_s, datagram, _, flow in packets:
        if isolate_flows:
            inspector = inspectors[flow.key]
        judgement = inspector.inspect(datagram, now_s)
        if judgement is not ACCEPTED and judgement.detections:
            flow.add(judgement.detections)
    return packets.result()


def each_capture(paths: Sequence[Path], work: Callable[[Path], T], processes: int) -> Iterator[T]:
    """What `work` makes of each capture, in the order of `paths`, in up to `processes`."""
    processes = min(processes, len(paths))
    if processes <= 1:
        yield from map(work, paths)
        return
    # A forked process has `work` already, with the RuleSet in it, which need not be copied.
    with ProcessPoolExecutor(
        processes, mp_context=get_context("fork"), initializer=_adopt, initargs=(work,)
    ) as pool:
        try:
            # Small captures one by one would cost more to hand out than to inspect.
            at_once = max(1, min(_MAX_AT_ONCE, len(paths) // (processes * 16)))
            yield from pool.map(_do_adopted, paths, chunksize=at_once)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


_adopted: Callable[[Path], Any]


def _adopt(work: Callable[[Path], Any]) -> None:
    global _adopted
    _adopted = work
    # Ctrl-C reaches the whole foreground group: end without a word, the parent speaks.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _do_adopted(path: Path) -> Any:
    return _adopted(path)


def usable_processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0))
