"""Conditions with every `not` pushed down to where it disappears.

In the language's three-valued logic a condition matches only when it is *true*. Once no
`not` stands above an `and` or `or`, unknown can be taken for false wherever it arises
without changing what is true: both connectives are monotone. So everything after this
module is two-valued.
"""

from __future__ import annotations

from dataclasses import replace

from engine.language import syntax
from engine.language.diagnostics import Span

_OPPOSITE: dict[syntax.ComparisonOperator, syntax.ComparisonOperator] = {
    "==": "!=",
    "!=": "==",
    "<": ">=",
    ">=": "<",
    ">": "<=",
    "<=": ">",
}


def normalise(condition: syntax.Expression, *, negated: bool = False) -> syntax.Expression:
    """An equivalent condition without `not` above `and`, `or` and comparisons of numbers.

    `Not` is left only directly above Term, Known, Match, Of, Member, Matches and TextComparison;
    ranges become comparisons, and lists hold nothing but constants; `and` and `or` hold neither
    their like nor single operands.
    """
    match condition:
        case syntax.Not(operand=operand):
            return normalise(operand, negated=not negated)
        case syntax.And(operands=operands, span=span):
            return _join(syntax.Or if negated else syntax.And, operands, negated, span)
        case syntax.Or(operands=operands, span=span):
            return _join(syntax.And if negated else syntax.Or, operands, negated, span)
        case syntax.Comparison(operator=operator, left=left, right=right, span=span):
            return syntax.Comparison(
                operator=_OPPOSITE[operator] if negated else operator,
                left=left,
                right=right,
                span=span,
            )
        case syntax.Member(operand=operand, container=syntax.Range() as bounds, span=span):
            inside = syntax.And(
                operands=(
                    syntax.Comparison(operator=">=", left=operand, right=bounds.low, span=span),
                    syntax.Comparison(operator="<", left=operand, right=bounds.high, span=span),
                ),
                span=span,
            )
            return normalise(inside, negated=negated)
        case syntax.Member(container=syntax.Choice(stretches=(_, *_)) as choice, span=span):
            parts = taken_apart(condition, choice)
            either = parts[0] if len(parts) == 1 else syntax.Or(operands=parts, span=span)
            return normalise(either, negated=negated)
        case _:
            return syntax.Not(operand=condition, span=condition.span) if negated else condition


def taken_apart(member: syntax.Member, choice: syntax.Choice) -> tuple[syntax.Member, ...]:
    """`x in [1, 2, 4..8]` as `x in [1, 2]` and `x in 4..8`, of which one must be true."""
    containers: list[syntax.Choice | syntax.Range | syntax.Network] = [*choice.stretches]
    if choice.constants:
        containers.insert(0, replace(choice, items=choice.constants))
    return tuple(replace(member, container=container) for container in containers)


def _join(
    connective: type[syntax.And] | type[syntax.Or],
    operands: tuple[syntax.Expression, ...],
    negated: bool,
    span: Span,
) -> syntax.Expression:
    flat: list[syntax.Expression] = []
    for operand in operands:
        inner = normalise(operand, negated=negated)
        if isinstance(inner, connective):
            flat.extend(inner.operands)
        else:
            flat.append(inner)
    return connective(operands=tuple(flat), span=span)
