"""Where a pattern begins in a payload: what is asked after the trigger, and costs a look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from engine.compiler.database import DatabaseSearch
from engine.compiler.expression import placed
from engine.language import syntax


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


def search_for(pattern: syntax.Pattern) -> Search:
    """What finds a pattern. Raises ExpressionError, with position 0."""
    if isinstance(pattern.body, syntax.TextBody) and pattern.body.value:
        value = pattern.body.value
        return TextSearch(value.lower() if pattern.nocase else value, pattern.nocase)
    return DatabaseSearch(placed(pattern, None))
