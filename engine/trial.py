"""Tries a RuleSet on captures: what the daemon would say about each flow.

Packets go through the inspector that the daemon uses, with the capture's own
clock, and each capture meets a fresh inspector.
"""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

from engine.compiler.ruleset import RuleSet
from engine.errors import InputError
from engine.inspect.inspector import Inspector
from engine.inspect.packet import decode, reverse
from engine.language.form import STOPPING
from engine.sources.capture import Capture, looks_like_capture
from engine.truth import FlowKey

_SUFFIXES: Final = (".pcap", ".pcapng", ".cap", ".pcap.gz", ".pcapng.gz", ".cap.gz")
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


def try_capture(path: Path, ruleset: RuleSet) -> CaptureTrial:
    """Inspect every packet of one capture."""
    inspect = Inspector(ruleset).inspect
    # Both directions of a flow lead to the same object.
    directions: dict[tuple[int, bytes], FlowTrial] = {}
    flows: list[FlowTrial] = []
    packets = 0
    now_s = 0.0
    error = None
    capture = Capture(path)
    try:
        for timestamp_s, datagram in capture:
            packets += 1
            # Merged captures step back in time, and the inspector's clock must not.
            now_s = max(now_s, timestamp_s)
            judgement = inspect(datagram, now_s)
            packet = decode(datagram)
            if packet is None:
                continue
            flow = directions.get((packet.protocol, packet.key))
            if flow is None:
                key = FlowKey.between(packet.transport, str(packet.source), str(packet.destination))
                flow = FlowTrial(key)
                directions[packet.protocol, packet.key] = flow
                directions[packet.protocol, reverse(packet.key)] = flow
                flows.append(flow)
            flow.packets += 1
            if packet.payload:
                flow.payload_packets += 1
            for detection in judgement.detections:
                if detection.signature not in flow.signatures:
                    flow.signatures.append(detection.signature)
                if _STRENGTH[detection.action] > _STRENGTH[flow.action]:
                    flow.action = detection.action
                if detection.action in STOPPING and flow.first_payload_index is None:
                    flow.first_payload_index = max(0, flow.payload_packets - 1)
    except InputError as err:
        error = str(err)
    return CaptureTrial(path, packets, capture.skipped, flows, error)


def try_captures(paths: Sequence[Path], ruleset: RuleSet, processes: int) -> Iterator[CaptureTrial]:
    """Inspect captures in up to `processes` processes; results come in the order of `paths`."""
    processes = min(processes, len(paths))
    if processes <= 1:
        for path in paths:
            yield try_capture(path, ruleset)
        return
    # A forked process has the RuleSet already; Hyperscan databases cannot be pickled.
    with ProcessPoolExecutor(
        processes, mp_context=get_context("fork"), initializer=_adopt, initargs=(ruleset,)
    ) as pool:
        try:
            yield from pool.map(_try_adopted, paths)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


_adopted: RuleSet


def _adopt(ruleset: RuleSet) -> None:
    global _adopted
    _adopted = ruleset
    # Ctrl-C reaches the whole foreground group: end without a word, the parent speaks.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _try_adopted(path: Path) -> CaptureTrial:
    return try_capture(path, _adopted)


def usable_processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0))
