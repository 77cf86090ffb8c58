"""Many signatures: how long they take to compile, what they weigh, what clean packets pay."""

from __future__ import annotations

import random
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.progress import Progress
from rich.table import Table

from engine.compiler.ruleset import RuleSet
from engine.inspect.inspector import Inspector
from engine.inspect.judgement import ACCEPTED
from engine.paths import shipped_signatures
from engine.selftest import self_test
from engine.signatures import load
from tools.bench.many_signatures import write_signatures
from tools.bench.options import Options
from tools.bench.processes import memory
from tools.bench.result import ratio, table

_PAYLOADS_B = (64, 200, 1000)
_PACKETS = 2000
_FLOWS = 64


@dataclass(frozen=True, slots=True)
class Loading:
    """One set of signatures: seconds for each step, bytes of memory beside the shipped set."""

    signatures: int
    load_s: float
    self_test_s: float
    databases_b: int
    resident_b: int
    need_python: int


@dataclass(frozen=True, slots=True)
class CleanCost:
    """Nanoseconds for a packet that nothing matches, a figure for each run."""

    transport: str
    payload_b: int
    shipped_ns: list[float]
    many_ns: list[float]


@dataclass(frozen=True, slots=True)
class ManySignatures:
    """The shipped signatures and the generated ones."""

    loadings: list[Loading]
    clean_costs: list[CleanCost]

    def tables(self) -> Iterator[Table]:
        columns = ("load", "own tests", "databases", "memory", "need Python")
        shown = table("Loading signatures", "signatures", *columns)
        for loading in self.loadings:
            shown.add_row(
                f"{loading.signatures:,}",
                f"{loading.load_s:.2f} s",
                f"{loading.self_test_s:.2f} s",
                f"{loading.databases_b / 1e6:.1f} MB",
                f"{loading.resident_b / 1e6:.0f} MB",
                f"{loading.need_python:,}",
            )
        yield shown
        columns = ("payload", "shipped set", "many signatures", "added", "ratio")
        shown = table("Inspecting a packet that nothing matches", "transport", *columns)
        for cost in self.clean_costs:
            shipped, many = statistics.median(cost.shipped_ns), statistics.median(cost.many_ns)
            shown.add_row(
                cost.transport,
                f"{cost.payload_b} B",
                f"{shipped:.0f} ns",
                f"{many:.0f} ns",
                f"{many - shipped:+.0f} ns",
                f"{ratio(cost.many_ns, cost.shipped_ns):.2f}",
            )
        yield shown


def measure_loading(folder: Path) -> Loading:
    """Load in a process of its own, so that its memory is its own."""
    out = subprocess.run(
        [sys.executable, "-m", "tools.bench.signatures", str(folder)],
        check=True,
        capture_output=True,
        text=True,
    )
    signatures, databases_b, resident_b, need_python, load_s, self_test_s = out.stdout.split()
    return Loading(
        int(signatures),
        float(load_s),
        float(self_test_s),
        int(databases_b),
        int(resident_b),
        int(need_python),
    )


def _load_and_tell(folder: Path) -> None:
    before = memory().peak_b
    start = time.perf_counter()
    ruleset = load(folder)
    loaded = time.perf_counter()
    if failures := self_test(ruleset):
        raise SystemExit("\n".join(map(str, failures)))
    tested = time.perf_counter()
    resident_b = memory().peak_b - before
    facts = ruleset.statistics
    print(len(ruleset.signatures), facts.bytes, resident_b, facts.need_python)
    print(loaded - start, tested - loaded)


def clean_costs(many: RuleSet, runs: int) -> Iterator[CleanCost]:
    """What packets that match nothing pay with the shipped set and with `many`."""
    shipped = load(shipped_signatures())
    for transport in ("udp", "tcp"):
        for payload_b in _PAYLOADS_B:
            packets = _clean_packets(transport, payload_b, many)
            cost = CleanCost(transport, payload_b, [], [])
            for _ in range(runs):
                cost.shipped_ns.append(_per_packet_ns(shipped, packets))
                cost.many_ns.append(_per_packet_ns(many, packets))
            yield cost


def _clean_packets(transport: str, payload_b: int, many: RuleSet) -> list[bytes]:
    """Packets of random bytes in which not even an expression matches.

    TCP: each is the first segment of its flow, so that each is scanned.
    """
    chance = random.Random(payload_b)
    bank = many.udp if transport == "udp" else many.tcp_stream
    packets: list[bytes] = []
    while len(packets) < _PACKETS:
        payload = chance.randbytes(payload_b)
        if not bank.database.scan(payload):
            flow = len(packets) % _FLOWS if transport == "udp" else len(packets)
            packets.append(_packet(transport, flow, payload))
    return packets


def _packet(transport: str, flow: int, payload: bytes) -> bytes:
    if transport == "udp":
        header = struct.pack(">HHHH", 20000 + flow, 9, 8 + len(payload), 0)
    else:
        header = struct.pack(">HHIIBBHHH", 20000 + flow, 9, 1, 1, 0x50, 0x18, 1024, 0, 0)
    protocol = 17 if transport == "udp" else 6
    total = 20 + len(header) + len(payload)
    addresses = bytes([10, 0, 0, 1, 10, 0, 0, 2])
    ip = struct.pack(">BBHHHBBH", 0x45, 0, total, 0, 0, 64, protocol, 0) + addresses
    return ip + header + payload


def _per_packet_ns(ruleset: RuleSet, packets: list[bytes]) -> float:
    """The best of several passes, each with a fresh inspector: the rest is the machine's."""
    best = float("inf")
    for _ in range(5):
        inspect = Inspector(ruleset).inspect
        start = time.perf_counter_ns()
        for packet in packets:
            if inspect(packet, 0.0) is not ACCEPTED:
                raise ValueError("a clean packet was not")
        best = min(best, time.perf_counter_ns() - start)
    return best / len(packets)


def measure(options: Options, progress: Progress) -> ManySignatures:
    """Load the shipped set and generated signatures, and compare them."""
    task = progress.add_task("Signatures", total=1 + 2 * len(_PAYLOADS_B))
    with tempfile.TemporaryDirectory(prefix="btblocker-bench-") as name:
        folder = Path(name)
        write_signatures(folder, options.signatures)
        loadings = [measure_loading(shipped_signatures()), measure_loading(folder)]
        progress.advance(task)
        costs = []
        for cost in clean_costs(load(folder), options.runs):
            costs.append(cost)
            progress.advance(task)
    return ManySignatures(loadings, costs)


if __name__ == "__main__":
    _load_and_tell(Path(sys.argv[1]))
