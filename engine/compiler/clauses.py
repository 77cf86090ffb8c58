"""Conditions that patterns alone decide, as sets of expressions to compare the matches with.

Hyperscan can combine expressions itself, but it looks at every combination at the end of every
scan, 15 to 20 ns each also where nothing matched, and it reports `$a and not $b` where `$a`
ends though `$b` may follow. Two sets for each way to be true cost nothing before the trigger.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Generic, TypeVar

from engine.compiler.expression import HsExpression, placed
from engine.compiler.search import is_sought
from engine.language import syntax
from engine.language.places import named_patterns, needed

# A condition with more ways to be true than this is quicker to ask term by term.
MAX_CLAUSES = 64

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Clause(Generic[T]):
    """One way for a condition to be true: all of `needed` match and none of `excluded`."""

    needed: frozenset[T]
    excluded: frozenset[T]

    def holds(self, hits: Set[T]) -> bool:
        """Whether it does for what matched."""
        return self.needed <= hits and self.excluded.isdisjoint(hits)


Clauses = tuple[Clause[HsExpression], ...]


def find_clauses(
    condition: syntax.Expression, patterns: Sequence[syntax.Pattern]
) -> Clauses | None:
    """The ways for a normalised condition to be true.

    None if more than patterns at constant places decide it, or if there are too many ways.
    """
    match condition:
        case syntax.And(operands=operands):
            return _all_of([find_clauses(operand, patterns) for operand in operands])
        case syntax.Or(operands=operands):
            return _any_of([find_clauses(operand, patterns) for operand in operands])
        case syntax.Not(operand=syntax.Match() | syntax.Of() as operand):
            return _matches(operand, patterns, negated=True)
        case syntax.Match() | syntax.Of():
            return _matches(condition, patterns, negated=False)
        case _:
            return None


def trigger_decides(clauses: Collection[Clause[HsExpression]]) -> bool:
    """Whether a condition is true as soon as any of its expressions matches."""
    return all(len(clause.needed) == 1 and not clause.excluded for clause in clauses)


def numbered(clauses: Clauses, ids: Mapping[HsExpression, int]) -> tuple[Clause[int], ...]:
    """The same about the expressions' ids."""
    return tuple(
        Clause(frozenset(ids[e] for e in c.needed), frozenset(ids[e] for e in c.excluded))
        for c in clauses
    )


def _matches(
    condition: syntax.Match | syntax.Of,
    patterns: Sequence[syntax.Pattern],
    *,
    negated: bool,
) -> Clauses | None:
    named = named_patterns(condition, patterns)
    if any(is_sought(pattern, condition.place) for pattern in named):
        return None
    each = [placed(pattern, condition.place) for pattern in named]
    wanted = 1 if isinstance(condition, syntax.Match) else needed(condition, len(each))
    if negated:  # of m, n do not match unless m - n + 1 are missing
        wanted = len(each) - wanted + 1
    if math.comb(len(each), wanted) > MAX_CLAUSES:
        return None
    none: frozenset[HsExpression] = frozenset()
    chosen = map(frozenset, itertools.combinations(each, wanted))
    return tuple(Clause(none, some) if negated else Clause(some, none) for some in chosen)


def _any_of(parts: Iterable[Clauses | None]) -> Clauses | None:
    found: dict[Clause[HsExpression], None] = {}
    for part in parts:
        if part is None:
            return None
        found.update(dict.fromkeys(part))
    return tuple(found) if len(found) <= MAX_CLAUSES else None


def _all_of(parts: Iterable[Clauses | None]) -> Clauses | None:
    found: Clauses | None = (Clause(frozenset(), frozenset()),)
    for part in parts:
        if part is None or found is None or len(found) * len(part) > MAX_CLAUSES:
            return None
        joined = [Clause(a.needed | b.needed, a.excluded | b.excluded) for a in found for b in part]
        found = _any_of([tuple(c for c in joined if c.needed.isdisjoint(c.excluded))])
    return found
