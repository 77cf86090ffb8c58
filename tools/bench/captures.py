"""sigtest over a folder of captures, beside nDPI's ndpiReader on the same files."""

from __future__ import annotations

import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.progress import Progress
from rich.table import Table

from engine.errors import UnavailableError
from engine.trial import find_captures
from tools.bench.capture_writer import write_captures
from tools.bench.options import Options
from tools.bench.result import ratio, table
from tools.lab.program import LabError

_SIGTEST = Path(__file__).parents[1] / "sigtest"
_PROCESSES = 2
_TIMEOUT_S = 1800.0


@dataclass(frozen=True, slots=True)
class Reading:
    """One program over all captures: seconds of each run, with those before the first packet."""

    program: str
    took_s: list[float]
    processor_s: list[float]
    """Of both processors together."""
    start_s: list[float]
    """For a capture of one packet."""


@dataclass(frozen=True, slots=True)
class Readings:
    """Programs in turn, the peer first."""

    captures: int
    packets: int
    readings: list[Reading]

    def tables(self) -> Iterator[Table]:
        peer = self.readings[0]
        shown = table(
            f"{self.captures:,} captures, {self.packets:,} packets, {_PROCESSES} processes",
            *("program", "packets/s", f"of {peer.program}", "its time", "start"),
            f"of {peer.program} without it",
        )
        for each in self.readings:
            shown.add_row(
                each.program,
                f"{self.packets / statistics.median(each.took_s):,.0f}",
                f"{ratio(peer.took_s, each.took_s):.2f}",
                f"{statistics.median(each.processor_s) * 1e6 / self.packets:.2f} µs/packet",
                f"{statistics.median(each.start_s):.2f} s",
                f"{ratio(_reading_s(peer), _reading_s(each)):.2f}",
            )
        yield shown


def _reading_s(reading: Reading) -> list[float]:
    """What the packets took. Where there are few of them, that is lost in noise."""
    return [
        max(took_s - start_s, 1e-3)
        for took_s, start_s in zip(reading.took_s, reading.start_s, strict=True)
    ]


def measure(options: Options, progress: Progress) -> Readings:
    """Programs in turn. Raises InputError for a bad folder, UnavailableError without ndpiReader."""
    if shutil.which("ndpiReader") is None:
        raise UnavailableError("needs ndpiReader: run `make setup`")
    with tempfile.TemporaryDirectory(prefix="btblocker-bench-") as name:
        folder = Path(name)
        if options.captures is None:
            captures = write_captures(folder, options.packets)
        else:
            captures = find_captures([options.captures])
        (folder / "one").mkdir()
        one = write_captures(folder / "one", 1)
        packets = _packets(captures)
        programs: dict[str, Callable[[Sequence[Path]], None]] = {
            "ndpiReader": _ndpi_reader,
            "sigtest": _sigtest,
        }
        readings = {program: Reading(program, [], [], []) for program in programs}
        task = progress.add_task("Captures", total=options.runs * len(programs))
        for _ in range(options.runs):
            for program, run in programs.items():
                reading = readings[program]
                start_s, _ = _timed(run, one)
                took_s, processor_s = _timed(run, captures)
                reading.start_s.append(start_s)
                reading.took_s.append(took_s)
                reading.processor_s.append(processor_s)
                progress.advance(task)
    return Readings(len(captures), packets, list(readings.values()))


def _packets(captures: Sequence[Path]) -> int:
    """IP packets in all captures, those before the damage in damaged ones."""
    told = _sigtest_process(captures, "--json")
    *_, last = told.stdout.splitlines()
    return int(json.loads(last)["summary"]["packets"])


def _sigtest(captures: Sequence[Path]) -> None:
    _sigtest_process(captures)


def _sigtest_process(captures: Sequence[Path], *options: str) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(
        [sys.executable, str(_SIGTEST), "-j", str(_PROCESSES), *options, *map(str, captures)],
        capture_output=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    # 2: one of them is damaged, and the others were tried.
    if done.returncode not in (0, 2):
        raise LabError(f"sigtest: {done.stderr.decode(errors='replace').strip()}")
    return done


def _ndpi_reader(captures: Sequence[Path]) -> None:
    """In as many processes, over shares of about the same size: one has no use for two cores."""
    shares: list[list[Path]] = [[] for _ in range(_PROCESSES)]
    sizes_b = [0] * _PROCESSES
    for path in sorted(captures, key=lambda path: -path.stat().st_size):
        least = sizes_b.index(min(sizes_b))
        shares[least].append(path)
        sizes_b[least] += path.stat().st_size
    with tempfile.TemporaryDirectory(prefix="btblocker-bench-") as name, ExitStack() as held:
        readers = []
        for number, share in enumerate(filter(None, shares)):
            playlist = Path(name, f"{number}.txt")
            playlist.write_text("".join(f"{path}\n" for path in share))
            reader = subprocess.Popen(
                ["ndpiReader", "-q", "-i", str(playlist)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            held.callback(reader.wait)
            held.callback(reader.kill)
            readers.append(reader)
        for reader in readers:
            if reader.wait(_TIMEOUT_S):
                raise LabError(f"ndpiReader ended with {reader.returncode}")


def _timed(run: Callable[[Sequence[Path]], None], captures: Sequence[Path]) -> tuple[float, float]:
    """Seconds of the clock, and of the processors for all processes that it took."""
    before, start_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    run(captures)
    after, end_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    taken_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return end_s - start_s, taken_s
