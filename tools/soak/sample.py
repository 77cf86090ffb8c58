"""What the processes of a blocker use, as proc(5) tells it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

# Lives for as long as signatures are compiled.
_PASSING = b"engine.service.builder"


@dataclass(frozen=True, slots=True)
class Sample:
    """All processes together at one moment."""

    at_s: float
    processes: int
    pss_kb: int
    """Memory, with what several share counted once."""
    open_files: int
    threads: int
    flows: int
    bans: int

    def as_json(self) -> dict[str, float]:
        return asdict(self)


def take(pid: int, at_s: float, flows: int, bans: int) -> Sample:
    """Of a process and its descendants, but for those that come and go by design."""
    processes = pss_kb = open_files = threads = 0
    for each in _family(pid):
        place = Path("/proc", str(each))
        with contextlib.suppress(OSError, ValueError):  # it has just ended
            if _PASSING in (place / "cmdline").read_bytes():
                continue
            rollup = (place / "smaps_rollup").read_text()
            pss_kb += int(rollup.partition("\nPss:")[2].split()[0])
            open_files += len(list((place / "fd").iterdir()))
            threads += len(list((place / "task").iterdir()))
            processes += 1
    return Sample(at_s, processes, pss_kb, open_files, threads, flows, bans)


def _family(pid: int) -> Iterator[int]:
    yield pid
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from _family(int(child))
