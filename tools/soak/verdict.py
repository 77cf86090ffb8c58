"""Whether what a blocker uses has grown."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from tools.soak.sample import Sample

# What a run may end above where it began, besides noise of the allocator's.
MAX_GROWTH = 0.05
SLACK_KB = 8 * 1024


def complaints(samples: Sequence[Sample]) -> list[str]:
    """What the last third of the samples has more of than the first; none where all is flat.

    Memory is compared by medians. Of files and threads the least is what is held for good:
    what comes and goes with a reload or a request does not count.
    """
    third = max(1, len(samples) // 3)
    first, last = samples[:third], samples[-third:]
    found = []
    before_kb, after_kb = (statistics.median(s.pss_kb for s in part) for part in (first, last))
    if after_kb > before_kb * (1 + MAX_GROWTH) + SLACK_KB:
        found.append(f"memory has grown from {before_kb / 1024:.1f} to {after_kb / 1024:.1f} MiB")
    held: dict[str, Callable[[Sample], int]] = {
        "open files": lambda s: s.open_files,
        "threads": lambda s: s.threads,
        "processes": lambda s: s.processes,
    }
    for name, of in held.items():
        before, after = (min(map(of, part)) for part in (first, last))
        if after > before:
            found.append(f"{name} have grown from {before} to {after}")
    return found
