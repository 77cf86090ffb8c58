"""How many lines one source, and all of them together, may have written about them.

Whoever can forge addresses can cause detections without end; what is written about them must
not fill the disk. Nothing else is limited by this: what is beyond it is dropped, banned and
counted like the rest, and a summary tells how much it was.
"""

from __future__ import annotations

from collections import Counter

WINDOW_S = 60


class LineLimit:
    """Lets `per_source` lines through for each topic and source, `total` for all, in a window.

    Its memory is bounded by `total` and the number of topics.
    """

    def __init__(self, per_source: int, total: int) -> None:
        self._per_source = per_source
        self._left = self._total = total
        self._told: Counter[tuple[str, bytes]] = Counter()
        self._suppressed: Counter[str] = Counter()

    def allows(self, topic: str, source: bytes) -> bool:
        """Whether one more line may be written; counted either way."""
        if self._left:
            key = topic, source
            if self._told[key] < self._per_source:
                self._told[key] += 1
                self._left -= 1
                return True
        self._suppressed[topic] += 1
        return False

    def begin_window(self) -> dict[str, int]:
        """Start anew; gives how many lines of each topic were suppressed before."""
        suppressed, self._suppressed = self._suppressed, Counter()
        self._told.clear()
        self._left = self._total
        return dict(suppressed)
