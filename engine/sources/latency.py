"""How long packets are held up: a histogram, filled from a few of them."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

# Upper bounds in seconds, the last bucket has none: 1 ms is a queue's worth of packets.
BOUNDS_S = (5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 5e-2)


@dataclass(slots=True)
class Latency:
    """Counts of durations by bucket; a bucket holds what is not above its bound."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    sum_s: float = 0.0

    def observe(self, duration_s: float) -> None:
        """Count one."""
        self.counts[bisect_left(BOUNDS_S, duration_s)] += 1
        self.sum_s += duration_s

    def __add__(self, other: Latency) -> Latency:
        """Both together."""
        counts = [ours + theirs for ours, theirs in zip(self.counts, other.counts, strict=True)]
        return Latency(counts, self.sum_s + other.sum_s)
