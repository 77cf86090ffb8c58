"""What is looked for after the trigger: where patterns begin, and what texts match."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from engine.compiler.database import (
    Database,
    DatabaseSearch,
    ExpressionError,
    tells_beginnings,
)
from engine.compiler.expression import HsExpression, placed
from engine.language import syntax
from engine.language.parser import walk
from engine.language.places import Place, is_constant, named_patterns, place_bounds
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
# Each byte before a place is time to compile: 0.3 s for a place around 16,000.
_MAX_OFFSET_B = 512


def is_sought(pattern: syntax.Pattern, place: Place) -> bool:
    """Whether a pattern at a place is left to a search after the trigger.

    It is where only the packet tells the place, and where a wide range of offsets, or a far one,
    would cost the database too much. The database looks for it anywhere then.
    """
    if not is_constant(place):
        return True
    if place is None:
        return False
    bounds = [constant(bound) for bound in place_bounds(place)]
    low, high = bounds[0], bounds[-1]
    assert low is not None
    assert high is not None
    if high - low <= _MAX_RANGE_B and high <= _MAX_OFFSET_B:
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


@dataclass(frozen=True, slots=True)
class Searches:
    """All that one condition looks for after its trigger.

    `patterns`, by name, are those that it counts, or seeks at their places; `regexes` are what
    texts must match: a database of one expression each.
    """

    patterns: Mapping[str, Search]
    regexes: Mapping[HsExpression, Database]

    @property
    def sizes_bytes(self) -> list[int]:
        """The memory of each."""
        patterns, regexes = self.patterns.values(), self.regexes.values()
        return [*(p.size_bytes for p in patterns), *(r.size_bytes for r in regexes)]


NO_SEARCHES = Searches({}, {})


class RefusedError(Exception):
    """Patterns and expressions of texts that Hyperscan refuses, each with its reason."""

    def __init__(self, refusals: Sequence[tuple[syntax.Pattern | syntax.RegexBody, str]]) -> None:
        super().__init__(refusals)
        self.refusals = tuple(refusals)


def find_searches(condition: syntax.Expression, patterns: Sequence[syntax.Pattern]) -> Searches:
    """Compile what a normalised condition looks for. Raises RefusedError."""
    sought, regexes = dict[str, Search](), dict[HsExpression, Database]()
    refusals: list[tuple[syntax.Pattern | syntax.RegexBody, str]] = []
    nodes = list(walk(condition))
    for pattern in _searched(nodes, patterns):
        try:
            sought[pattern.name] = search_for(pattern)
        except ExpressionError as error:
            refusals.append((pattern, error.reasons[0]))
    for node in nodes:
        if isinstance(node, syntax.Matches) and (expression := regex_of(node)) not in regexes:
            try:
                regexes[expression] = Database([expression])
            except ExpressionError as error:
                refusals.append((node.regex, error.reasons[0]))
    if refusals:
        raise RefusedError(refusals)
    return Searches(sought, regexes)


def regex_of(matches: syntax.Matches) -> HsExpression:
    """What a text must match."""
    return HsExpression(matches.regex.expression, matches.nocase)


def _searched(
    nodes: Iterable[syntax.Node], patterns: Sequence[syntax.Pattern]
) -> list[syntax.Pattern]:
    """Every pattern that some nodes count, or that is sought at its place."""
    names: set[str] = set()
    for node in nodes:
        match node:
            case syntax.Count(pattern=name):
                names.add(name)
            case syntax.Match(place=place) | syntax.Of(place=place):
                names.update(p.name for p in named_patterns(node, patterns) if is_sought(p, place))
    return [p for p in patterns if p.name in names]
