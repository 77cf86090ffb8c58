"""Processes as the kernel shows them: where they run, and what memory they take (proc(5))."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.errors import UnavailableError

# One core makes the packets and carries them to the queue, the other consumes them.
SENDER_CORE = 0
CONSUMER_CORE = 1


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident bytes of a process: now, and the most since its program began."""

    resident_b: int
    peak_b: int


def memory(pid: int | None = None) -> Memory:
    """Of a process, or of this one."""
    status = Path(f"/proc/{pid or 'self'}/status").read_text()
    facts = dict(line.split(":", 1) for line in status.splitlines())
    # `ru_maxrss` would begin with what the process was before execve(2).
    return Memory(*(int(facts[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM")))


def family(pid: int) -> Iterator[int]:
    """A process and all that descend from it, parents first."""
    yield pid
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for child in (thread / "children").read_text().split():
            yield from family(int(child))


def processor_s(pid: int) -> float:
    """Processor time that a process and its living descendants have taken."""
    ticks = 0
    for each in family(pid):
        # What follows the name, which may hold anything: state is the first, utime the 12th.
        facts = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        ticks += int(facts[11]) + int(facts[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def pin(pid: int, processor: int) -> None:
    """Keep a process, its descendants and all their threads, on one processor."""
    for each in family(pid):
        for thread in Path(f"/proc/{each}/task").iterdir():
            os.sched_setaffinity(int(thread.name), {processor})


def require_two_processors() -> None:
    """Raises UnavailableError where there is one."""
    if len(os.sched_getaffinity(0)) < 2:
        raise UnavailableError("needs two processors: one sends, the other consumes")
