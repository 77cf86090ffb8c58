"""Conditions about the turns of a flow: true now, perhaps later, or never any more.

Turns come one after the other, and what is known of them settles: bytes that have come stay,
sizes only grow, and what is complete is final. A condition that can no longer become true
need not be asked again, and a flow of which none can is not followed any further.

The generated function gives one of three integers. NOW is zero, so that Python's `or` gives the
first of several outcomes that is not: of an `and` no more is asked than that. Its operands are
asked turn by turn.
"""

from __future__ import annotations

import ast
import math
from typing import Final

from engine.compiler.generator import Generator
from engine.compiler.predicate import Predicate, function_of
from engine.compiler.search import Searches
from engine.fields import VOCABULARY
from engine.language import syntax
from engine.language.lists import Lists
from engine.language.parser import walk
from engine.language.values import constant

NOW: Final = 0
LATER: Final = 1
NEVER: Final = 2

_COMPLETE = "turn(n).complete"
# The other way round: `96 <= turn(0).size` says `turn(0).size >= 96`.
_TURNED: dict[syntax.ComparisonOperator, syntax.ComparisonOperator] = {
    "<": ">",
    "<=": ">=",
    ">": "<",
    ">=": "<=",
    "==": "==",
    "!=": "!=",
}


def compile_outcome(
    name: str, condition: syntax.Expression, searches: Searches, lists: Lists
) -> Predicate:
    """Generate the function for a normalised, checked condition of a flow.

    It is called as `compile_predicate` describes, and gives NEVER, LATER or NOW.
    """
    return function_of(_OutcomeGenerator((), {}, searches, lists), name, condition)


class _OutcomeGenerator(Generator):
    def truth(self, condition: syntax.Expression) -> ast.expr:
        match condition:
            case syntax.And(operands=operands):
                in_order = sorted(operands, key=_last_turn)
                return ast.BoolOp(ast.Or(), [self.truth(operand) for operand in in_order])
            case syntax.Or(operands=operands):
                outcomes = [self.truth(operand) for operand in operands]
                return ast.Call(ast.Name("min", ast.Load()), outcomes, [])
            case _:
                return _if(super().truth(condition), ast.Constant(NOW), self._prospect(condition))

    def _prospect(self, leaf: syntax.Expression) -> ast.expr:
        """NEVER or LATER, for a test that is not true now."""
        terms = [node for node in walk(leaf) if isinstance(node, syntax.Term)]
        if any(VOCABULARY[term.name].settles is None for term in terms):
            return ast.Constant(LATER)
        if (passed := self._passed(leaf)) is not None:
            return passed
        unsettled = [self._unsettled(term) for term in terms]
        if not unsettled:  # constants alone
            return ast.Constant(NEVER)
        waits = unsettled[0] if len(unsettled) == 1 else ast.BoolOp(ast.Or(), unsettled)
        return _if(waits, ast.Constant(LATER), ast.Constant(NEVER))

    def _passed(self, leaf: syntax.Expression) -> ast.expr | None:
        """The prospect of a comparison that a growing value has left behind, if it is one."""
        if not isinstance(leaf, syntax.Comparison):
            return None
        term, sign, bound = leaf.left, leaf.operator, constant(leaf.right)
        if bound is None:
            term, sign, bound = leaf.right, _TURNED[leaf.operator], constant(leaf.left)
        if bound is None or not isinstance(term, syntax.Term) or sign not in ("<", "<=", "=="):
            return None
        if VOCABULARY[term.name].settles != "grows":
            return None
        bind, value = self.temporary(self.call(term))
        unknown = ast.Compare(value, [ast.Is()], [ast.Constant(None)])
        waits: ast.expr = unknown
        if sign == "==":
            below = ast.Compare(value, [ast.Lt()], [ast.Constant(bound)])
            waits = ast.BoolOp(
                ast.Or(), [unknown, ast.BoolOp(ast.And(), [below, self._incomplete(term)])]
            )
        bound_first = ast.BoolOp(ast.And(), [ast.Tuple([bind], ast.Load()), waits])
        return _if(bound_first, ast.Constant(LATER), ast.Constant(NEVER))

    def _unsettled(self, term: syntax.Term) -> ast.expr:
        """Whether the value of a term may still change."""
        incomplete = self._incomplete(term)
        if VOCABULARY[term.name].settles != "known" or not _is_constant(term):
            return incomplete
        unknown = ast.Compare(self.call(term), [ast.Is()], [ast.Constant(None)])
        return ast.BoolOp(ast.And(), [incomplete, unknown])

    def _incomplete(self, term: syntax.Term) -> ast.expr:
        turn = term.arguments[0]
        complete = self.call(syntax.Term(name=_COMPLETE, arguments=(turn,), span=term.span))
        return ast.UnaryOp(ast.Not(), complete)


def _is_constant(term: syntax.Term) -> bool:
    """Whether it reads the same place each time."""
    return all(constant(argument) is not None for argument in term.arguments)


def _if(test: ast.expr, then: ast.expr, otherwise: ast.expr) -> ast.expr:
    return ast.IfExp(test, then, otherwise)


def _last_turn(condition: syntax.Expression) -> float:
    """The last turn that a condition asks about; what never settles comes after all of them."""
    terms = [node for node in walk(condition) if isinstance(node, syntax.Term)]
    if any(VOCABULARY[term.name].settles is None for term in terms):
        return math.inf
    return max((constant(term.arguments[0]) or 0 for term in terms), default=0)
