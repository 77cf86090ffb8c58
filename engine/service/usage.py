"""What a process uses of the machine, as proc(5) tells it."""

from __future__ import annotations

import os
from pathlib import Path

from engine.service.status import ProcessUsage

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_B = os.sysconf("SC_PAGE_SIZE")


def usage(name: str, pid: int) -> ProcessUsage | None:
    """Of one process; None if it is gone."""
    place = Path("/proc", str(pid))
    try:
        # The name in parentheses may hold anything; behind it the third field begins.
        fields = (place / "stat").read_text().rpartition(")")[2].split()
        resident_pages = int((place / "statm").read_text().split()[1])
        open_files = len(list((place / "fd").iterdir()))
    except (OSError, IndexError):
        return None
    return {
        "name": name,
        "pid": pid,
        "cpu_s": round((int(fields[11]) + int(fields[12])) / _TICKS_PER_S, 3),
        "resident_bytes": resident_pages * _PAGE_B,
        "open_files": open_files,
    }
