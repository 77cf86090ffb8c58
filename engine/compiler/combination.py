"""Conditions that patterns alone decide, as formulas that Hyperscan evaluates while it scans.

Only `and`, `or` and `N of`: Hyperscan reports `$a and not $b` where `$a` ends, though `$b`
may follow.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from engine.compiler.expression import HsExpression, placed
from engine.language import syntax
from engine.language.checker import is_constant, matched_names

# `N of` is written out, and formulas cost memory at each match of a part.
MAX_TERMS = 64


@dataclass(frozen=True, slots=True)
class Formula:
    """`and` or `or` over formulas and expressions."""

    operator: Literal["&", "|"]
    parts: tuple[Formula | HsExpression, ...]

    def written(self, ids: Mapping[HsExpression, int]) -> str:
        """In Hyperscan's notation, expressions by their ids."""
        parts = (
            part.written(ids) if isinstance(part, Formula) else str(ids[part])
            for part in self.parts
        )
        return "(" + f" {self.operator} ".join(parts) + ")"

    @property
    def is_alternative(self) -> bool:
        """Whether it is true as soon as one expression matches."""
        return self.operator == "|" and all(
            part.is_alternative for part in self.parts if isinstance(part, Formula)
        )

    def terms(self) -> Iterator[HsExpression]:
        """Its expressions, as often as they stand in it."""
        for part in self.parts:
            if isinstance(part, Formula):
                yield from part.terms()
            else:
                yield part


def find_formula(
    condition: syntax.Expression, patterns: Sequence[syntax.Pattern]
) -> Formula | None:
    """The formula of a normalised condition, None if more than patterns decide it."""
    found = _formula(condition, {p.name: p for p in patterns})
    formula = Formula("|", (found,)) if isinstance(found, HsExpression) else found
    if formula is None or sum(1 for _ in formula.terms()) > MAX_TERMS:
        return None
    return formula


def _formula(
    condition: syntax.Expression, patterns: Mapping[str, syntax.Pattern]
) -> Formula | HsExpression | None:
    match condition:
        case syntax.And(operands=operands) | syntax.Or(operands=operands):
            parts = [_formula(operand, patterns) for operand in operands]
            if None in parts:
                return None
            operator: Literal["&", "|"] = "&" if isinstance(condition, syntax.And) else "|"
            return Formula(operator, tuple(part for part in parts if part is not None))
        case syntax.Match(pattern=name, place=place) if is_constant(place):
            return placed(patterns[name], place)
        case syntax.Of(quantity=quantity, patterns=names, place=place) if is_constant(place):
            matched = matched_names(names, list(patterns.values()))
            each = tuple(placed(patterns[name], place) for name in matched)
            if len(each) == 1:
                return each[0]
            if quantity in ("all", len(each)):
                return Formula("&", each)
            if quantity in ("any", 1):
                return Formula("|", each)
            wanted = int(quantity)
            if math.comb(len(each), wanted) * wanted > MAX_TERMS:
                return None
            chosen = itertools.combinations(each, wanted)
            return Formula("|", tuple(Formula("&", some) for some in chosen))
        case _:
            return None
