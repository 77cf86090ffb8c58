"""What a condition and each of its parts came to, for one packet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engine.language import syntax


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A node of a condition and what it came to.

    `value` is a truth value, an integer, a decimal, bytes or an address; None is unknown.
    `note` says where a pattern stands, or why a value is unknown, where that began here.
    """

    node: syntax.Expression
    value: Any
    parts: tuple[Evaluation, ...] = ()
    note: str = ""

    @property
    def nearness(self) -> float:
        """The share of terms that are as the condition wants them; of an `or`, its best part."""
        fitting, terms = _nearness(self, wanted=True)
        return fitting / terms


def _nearness(evaluation: Evaluation, *, wanted: bool) -> tuple[int, int]:
    match evaluation.node:
        case syntax.Not():
            return _nearness(evaluation.parts[0], wanted=not wanted)
        case syntax.And() | syntax.Or() as node:
            parts = [_nearness(part, wanted=wanted) for part in evaluation.parts]
            # By De Morgan, all parts of an `or` must be false for it to be so.
            if isinstance(node, syntax.And) is wanted:
                return sum(fitting for fitting, _ in parts), sum(terms for _, terms in parts)
            return max(parts, key=lambda part: part[0] / part[1])
        case _:
            return int(evaluation.value is wanted), 1
