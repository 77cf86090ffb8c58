"""Python syntax trees of normalised conditions: what `predicate` makes a function of.

Each comparison stands behind guards that hold only when every value in it is known, so unknown
is False here (see `normal`).
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from engine.compiler.expression import HsExpression, placed
from engine.compiler.search import Searches, is_sought, regex_of
from engine.fields import VOCABULARY
from engine.language import syntax
from engine.language.lists import Lists
from engine.language.places import Place, named_patterns
from engine.language.values import static_type

# Where counting ends: what is more often in one payload than this is simply often.
MAX_COUNT = 1024

_ARITHMETIC: dict[str, type[ast.operator]] = {
    "+": ast.Add,
    "-": ast.Sub,
    "*": ast.Mult,
    "/": ast.FloorDiv,
    "%": ast.Mod,
    "&": ast.BitAnd,
    "|": ast.BitOr,
    "^": ast.BitXor,
    "<<": ast.LShift,
    ">>": ast.RShift,
}
_COMPARISON: dict[str, type[ast.cmpop]] = {
    "==": ast.Eq,
    "!=": ast.NotEq,
    "<": ast.Lt,
    "<=": ast.LtE,
    ">": ast.Gt,
    ">=": ast.GtE,
}


def reader(term: str) -> str:
    """The name of what reads a field, in generated code."""
    return "read_" + re.sub(r"\W+", "_", term)


class Generator:
    """Builds the tree of one condition.

    Meanwhile `terms_read` collects the fields that it reads, by `reader`s, and `objects` the
    other things it names.
    """

    def __init__(
        self,
        patterns: Sequence[syntax.Pattern],
        ids: Mapping[HsExpression, int],
        searches: Searches,
        lists: Lists,
    ) -> None:
        self.terms_read: set[str] = set()
        self.objects: dict[str, Any] = {}
        self._patterns = patterns
        self._ids = ids
        self._searches = searches
        self._lists = lists
        self._temporaries = 0
        self._guards: list[ast.expr] = []

    def truth(self, condition: syntax.Expression) -> ast.expr:
        """What a condition comes to."""
        match condition:
            case syntax.And(operands=operands):
                return ast.BoolOp(ast.And(), [self.truth(o) for o in operands])
            case syntax.Or(operands=operands):
                return ast.BoolOp(ast.Or(), [self.truth(o) for o in operands])
            case _:
                return self._leaf(condition)

    def _hit(self, pattern: syntax.Pattern, place: Place) -> ast.expr:
        expression = placed(pattern, place)
        return ast.Compare(
            ast.Constant(self._ids[expression]), [ast.In()], [ast.Name("hits", ast.Load())]
        )

    def _hits(self, term: syntax.Match | syntax.Of) -> list[ast.expr]:
        """A test for each pattern of a term whether it matches at the term's place."""
        named, place = named_patterns(term, self._patterns), term.place
        sought = {pattern.name for pattern in named if is_sought(pattern, place)}
        bounds = self._bounds(place) if sought else None
        return [
            self._begins(pattern.name, bounds)
            if bounds and pattern.name in sought
            else self._hit(pattern, place)
            for pattern in named
        ]

    def _of(self, of: syntax.Of) -> ast.expr:
        hits = self._hits(of)
        if len(hits) == 1:
            return hits[0]
        if of.quantity in ("any", "all"):
            return ast.BoolOp(ast.Or() if of.quantity == "any" else ast.And(), hits)
        total = ast.Call(ast.Name("sum", ast.Load()), [ast.Tuple(hits, ast.Load())], [])
        return ast.Compare(total, [ast.GtE()], [ast.Constant(of.quantity)])

    def _leaf(self, leaf: syntax.Expression) -> ast.expr:
        """A test behind the guards of its values."""
        outer, self._guards = self._guards, []
        match leaf:
            case syntax.Known(operand=operand):
                test = self._known(operand)
            case syntax.Not(operand=syntax.Known(operand=operand)):
                test = ast.UnaryOp(ast.Not(), self._known(operand))
            case syntax.Not(operand=operand):
                test = ast.UnaryOp(ast.Not(), self._test(operand))
            case _:
                test = self._test(leaf)
        guards, self._guards = self._guards, outer
        return ast.BoolOp(ast.And(), [*guards, test]) if guards else test

    def _known(self, value: syntax.Expression) -> ast.expr:
        """The guards of a value, as a test: they hold where it is known."""
        self._value(value)
        guards, self._guards = self._guards, []
        return guards[0] if len(guards) == 1 else ast.BoolOp(ast.And(), guards)

    def _test(self, test: syntax.Expression) -> ast.expr:
        match test:
            case syntax.Match():
                (hit,) = self._hits(test)
                return hit
            case syntax.Of():
                return self._of(test)
            case syntax.Comparison(operator=sign, left=left, right=right):
                return ast.Compare(self._value(left), [_COMPARISON[sign]()], [self._value(right)])
            case syntax.TextComparison():
                return self._text_comparison(test)
            case syntax.Matches(text=text):
                database = self._object(self._searches.regexes[regex_of(test)])
                hits = _call(database, "scan", self._value(text))
                return ast.Compare(hits, [ast.NotEq()], [ast.List([], ast.Load())])
            case syntax.Member():
                return self._member(test)
            case _:
                return self._value(test)

    def _text_comparison(self, test: syntax.TextComparison) -> ast.expr:
        left, right = self._value(test.left), self._value(test.right)
        sign: str = test.operator
        if sign.startswith("i"):
            sign = sign[1:]
            left, right = _call(left, "lower"), _call(right, "lower")
        if sign == "equals":
            return ast.Compare(left, [ast.Eq()], [right])
        if sign == "contains":
            return ast.Compare(right, [ast.In()], [left])
        return _call(left, sign, right)

    def _bounds(self, place: Place) -> tuple[ast.expr, ast.expr]:
        """Where a pattern may begin, from and before, evaluated once."""

        def once(value: ast.expr) -> ast.expr:
            if isinstance(value, ast.Constant):
                return value
            return self._guarded(value, lambda v: ast.Compare(v, [ast.IsNot()], [_NONE]))

        if place is None:
            return ast.Constant(0), ast.Constant(sys.maxsize)
        if isinstance(place, syntax.Range):
            return once(self._value(place.low)), once(self._value(place.high))
        low = once(self._value(place))
        return low, ast.BinOp(low, ast.Add(), ast.Constant(1))

    def _begins(self, name: str, bounds: tuple[ast.expr, ast.expr]) -> ast.expr:
        return ast.Compare(self._count(name, bounds, 1), [ast.Gt()], [_ZERO])

    def _count(self, name: str, bounds: tuple[ast.expr, ast.expr], limit: int) -> ast.expr:
        search = self._object(self._searches.patterns[name])
        return _call(search, "count", _PAYLOAD, *bounds, ast.Constant(limit))

    def _object(self, value: object) -> ast.expr:
        """A code object's constants are plain values; anything else gets a name instead."""
        name = f"object_{len(self.objects)}"
        self.objects[name] = value
        return ast.Name(name, ast.Load())

    def _member(self, member: syntax.Member) -> ast.expr:
        operand = self._value(member.operand)
        match member.container:
            case syntax.Choice(constants=items):
                container: ast.expr = ast.Tuple([self._value(i) for i in items], ast.Load())
            case syntax.Network(value=network):
                container = self._object(network)
            case syntax.ListReference(name=name):
                kind = static_type(member.operand, VOCABULARY)
                container = self._object(self._lists.entries(name, kind))
            case _:
                raise AssertionError(f"checked and normalised conditions have no {member}")
        return ast.Compare(operand, [ast.In()], [container])

    def _value(self, expression: syntax.Expression) -> ast.expr:
        match expression:
            case syntax.Number(value=value) | syntax.Text(value=value):
                return ast.Constant(value)
            case syntax.Unary(operator=operator, operand=operand):
                return ast.UnaryOp(
                    ast.USub() if operator == "-" else ast.Invert(), self._value(operand)
                )
            case syntax.Arithmetic():
                return self._arithmetic(expression)
            case syntax.Term():
                return self._term(expression)
            case syntax.Count(pattern=name, place=place):
                return self._count(name, self._bounds(place), MAX_COUNT)
            case _:
                raise AssertionError(f"checked conditions have no {expression} as a value")

    def _arithmetic(self, expression: syntax.Arithmetic) -> ast.expr:
        left, right = self._value(expression.left), self._value(expression.right)
        # Division by zero and absurd shifts have no value: unknown, like a read past the end.
        if expression.operator in ("/", "%"):
            right = self._guarded(right, lambda v: ast.Compare(v, [ast.NotEq()], [_ZERO]))
        elif expression.operator in ("<<", ">>"):
            right = self._guarded(
                right,
                lambda v: ast.Compare(_ZERO, [ast.LtE(), ast.Lt()], [v, ast.Constant(64)]),
            )
        return ast.BinOp(left, _ARITHMETIC[expression.operator](), right)

    def _term(self, term: syntax.Term) -> ast.expr:
        field = VOCABULARY[term.name]
        if term.name == "size":
            return ast.Call(ast.Name("len", ast.Load()), [_PAYLOAD], [])
        call = self.call(term)
        if field.certain:
            return call
        return self._guarded(call, lambda v: ast.Compare(v, [ast.IsNot()], [_NONE]))

    def call(self, term: syntax.Term) -> ast.expr:
        """The call that reads a field; None where it is unknown."""
        self.terms_read.add(term.name)
        return ast.Call(
            ast.Name(reader(term.name), ast.Load()),
            [ast.Name("context", ast.Load()), *(self._value(a) for a in term.arguments)],
            [],
        )

    def _guarded(self, value: ast.expr, test: Callable[[ast.expr], ast.expr]) -> ast.expr:
        """Keep a value in a temporary and add a guard on it; gives the temporary."""
        bind, kept = self.temporary(value)
        # A tuple is always true: it only binds the name before the test.
        self._guards.append(ast.BoolOp(ast.And(), [ast.Tuple([bind], ast.Load()), test(kept)]))
        return kept

    def temporary(self, value: ast.expr) -> tuple[ast.expr, ast.expr]:
        """What computes a value and keeps it, and what gives it once more."""
        name = f"t{self._temporaries}"
        self._temporaries += 1
        bind = ast.NamedExpr(ast.Name(name, ast.Store()), value)
        return bind, ast.Name(name, ast.Load())


_ZERO, _NONE = ast.Constant(0), ast.Constant(None)
_PAYLOAD = ast.Attribute(ast.Name("context", ast.Load()), "payload", ast.Load())


def _call(value: ast.expr, method: str, *arguments: ast.expr) -> ast.expr:
    return ast.Call(ast.Attribute(value, method, ast.Load()), list(arguments), [])
