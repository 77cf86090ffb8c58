"""Conditions with every `not` pushed down to where it disappears.

In the language's three-valued logic a condition matches only when it is *true*. Once no
`not` stands above an `and` or `or`, unknown can be taken for false wherever it arises
without changing what is true: both connectives are monotone. So everything after this
module is two-valued.
"""

from __future__ import annotations

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

    `Not` is left only directly above Term, Match, Of, Member and TextComparison; ranges become
    comparisons; `and` and `or` hold neither their like nor single operands.
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
        case _:
            return syntax.Not(operand=condition, span=condition.span) if negated else condition


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
