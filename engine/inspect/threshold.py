"""Thresholds: how often a signature has matched for a host lately, in bounded memory."""

from __future__ import annotations

from collections import OrderedDict, deque

from engine.language.form import Threshold

# Times a hundred times each, the most a threshold counts, this stays within 60 MB.
MAX_COUNTED = 16384


class ThresholdCounter:
    """Matches by signature and host; the pair that waited longest is forgotten first."""

    def __init__(self) -> None:
        self._times: OrderedDict[tuple[str, bytes], deque[float]] = OrderedDict()

    def reached(self, signature: str, host: bytes, threshold: Threshold, now_s: float) -> bool:
        """Count a match; true from the `count`-th on within `within` seconds."""
        key = signature, host
        times = self._times.get(key)
        if times is None or times.maxlen != threshold.count:  # a reload may change the count
            times = self._times[key] = deque(times or (), threshold.count)
        self._times.move_to_end(key)
        if len(self._times) > MAX_COUNTED:
            self._times.popitem(last=False)
        times.append(now_s)
        return len(times) == threshold.count and now_s - times[0] <= threshold.within
