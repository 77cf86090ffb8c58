"""Which patterns a condition names, and where they are to begin."""

from __future__ import annotations

from collections.abc import Sequence

from engine.language import syntax
from engine.language.values import constant

Place = syntax.Expression | syntax.Range | None


def is_constant(place: Place) -> bool:
    """Whether a place is known before any packet is."""
    return all(constant(bound) is not None for bound in place_bounds(place))


def place_bounds(place: Place) -> tuple[syntax.Expression, ...]:
    """What a place is made of: an offset, the two of a range, or nothing."""
    if place is None:
        return ()
    return (place.low, place.high) if isinstance(place, syntax.Range) else (place,)


def named_patterns(
    term: syntax.Match | syntax.Of, patterns: Sequence[syntax.Pattern]
) -> list[syntax.Pattern]:
    """The patterns that a term is about, in order of definition."""
    if isinstance(term, syntax.Match):
        return [p for p in patterns if p.name == term.pattern]
    names = set(matched_names(term.patterns, patterns))
    return [p for p in patterns if p.name in names]


def needed(of: syntax.Of, patterns: int) -> int:
    """How many of so many patterns must match."""
    match of.quantity:
        case "any":
            return 1
        case "all":
            return patterns
        case number:
            return number


def matched_names(names: Sequence[str], patterns: Sequence[syntax.Pattern]) -> list[str]:
    """The pattern names that `($a, $b*)` stands for, in order of definition; none is `them`."""
    if not names:
        return [p.name for p in patterns]
    return [
        p.name
        for p in patterns
        if any(p.name == n or (n.endswith("*") and p.name.startswith(n[:-1])) for n in names)
    ]
