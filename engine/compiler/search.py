"""Where a pattern begins in a payload: what is asked after the trigger, and costs a look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from engine.compiler.database import DatabaseSearch, tells_beginnings
from engine.compiler.expression import HsExpression, placed
from engine.language import syntax
from engine.language.places import Place, is_constant
from engine.language.regex import looks_behind
from engine.language.values import constant


class Search(Protocol):
    """Finds where one pattern begins.

    Of matches that end at the same offset, only the one that begins first is found.
    """

    @property
    def size_bytes(self) -> int:
        """The memory of its database, if it has one."""

    def count(self, payload: bytes, low: int, high: int, limit: int) -> int:
        """How many offsets from `low` up to before `high` it begins at, `limit` at most.

        It is looked for from `low` on, as if nothing stood before.
        """


@dataclass(frozen=True, slots=True)
class TextSearch:
    """Finds a text without a database; a text for any case is in lower case."""

    text: bytes
    nocase: bool
    size_bytes: int = 0

    def count(self, payload: bytes, low: int, high: int, limit: int) -> int:
        """As in `Search`."""
        if self.nocase:
            payload = payload.lower()
        end = max(high, 0) + len(self.text) - 1
        start, count = payload.find(self.text, max(low, 0), end), 0
        while start >= 0 and count < limit:
            count += 1
            start = payload.find(self.text, start + 1, end)
        return count


# A range of offsets is an automaton of its own to Hyperscan wherever another pattern has another
# range or there are wildcards: several ms and 10 to 90 KiB to compile each, and a thousand of
# them make every scan ten times as long. Narrow ones do not.
_MAX_RANGE_B = 4


def is_sought(pattern: syntax.Pattern, place: Place) -> bool:
    """Whether a pattern at a place is left to a search after the trigger.

    It is where only the packet tells the place, and where a range of offsets would cost the
    database too much. The database looks for it anywhere then.
    """
    if not is_constant(place):
        return True
    if not isinstance(place, syntax.Range):
        return False
    low, high = constant(place.low), constant(place.high)
    assert low is not None
    assert high is not None
    if high - low <= _MAX_RANGE_B:
        return False
    if isinstance(pattern.body, syntax.TextBody):
        return True
    # A search does not see what stands before the range, nor every beginning.
    body = pattern.body
    behind = isinstance(body, syntax.RegexBody) and looks_behind(body.expression)
    return not behind and tells_beginnings(placed(pattern, None))


def looked_for(pattern: syntax.Pattern, place: Place) -> HsExpression:
    """What the database looks for, for a pattern at a place."""
    return placed(pattern, None if is_sought(pattern, place) else place)


def search_for(pattern: syntax.Pattern) -> Search:
    """What finds a pattern. Raises ExpressionError, with position 0."""
    if isinstance(pattern.body, syntax.TextBody) and pattern.body.value:
        value = pattern.body.value
        return TextSearch(value.lower() if pattern.nocase else value, pattern.nocase)
    return DatabaseSearch(placed(pattern, None))
