"""Quantiles of the histogram of latencies."""

from __future__ import annotations

from engine.service.status import LatencyStatus


def quantile_s(latency: LatencyStatus, share: float) -> float | None:
    """The bound that a share of the durations (0 to 1) stays within.

    None where that is beyond the last bound, or nothing was measured.
    """
    wanted = share * sum(latency["counts"])
    for bound_s, count in zip(latency["bounds_s"], latency["counts"], strict=False):
        wanted -= count
        if wanted <= 0:
            return bound_s if count else None
    return None
