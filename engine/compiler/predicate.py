"""From a normalised condition to one generated function, built as a Python syntax tree.

No text of the author's reaches Python's parser: names become references to a table of
readers, texts and numbers become constants. The function is called

    when(context, hits) -> bool

with the field context and the set of expression ids that matched. Each comparison stands
behind guards that hold only when every value in it is known, so unknown is False here
(see `normal`).
"""

from __future__ import annotations

import ast
import marshal
import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from types import CodeType, FunctionType, MappingProxyType
from typing import Any

from engine.compiler.expression import HsExpression, placed
from engine.compiler.search import Search, is_sought
from engine.fields import VOCABULARY, Context
from engine.language import syntax
from engine.language.checker import Place, matched_names, static_type
from engine.language.lists import Lists
from engine.language.parser import walk

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


class Predicate:
    """The generated function of a condition; pickling keeps its code."""

    __slots__ = ("_code", "_name", "_objects", "_terms", "when")

    when: Callable[[Context, Collection[int]], Any]

    def __init__(
        self, name: str, code: CodeType, terms: Collection[str], objects: Mapping[str, Any]
    ) -> None:
        """`terms` are the fields that the code reads, `objects` the constants it names."""
        self._name, self._code = name, code
        self._terms, self._objects = terms, objects
        readers = {_reader(term): VOCABULARY[term].read for term in terms}
        names = {
            "__builtins__": {"len": len, "sum": sum, "min": min},
            **readers,
            **objects,
        }
        self.when = FunctionType(code, names, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self._name, marshal.dumps(self._code), self._terms, self._objects)


def _restore(
    name: str, code: bytes, terms: Collection[str], objects: Mapping[str, Any]
) -> Predicate:
    return Predicate(name, marshal.loads(code), terms, objects)


def placed_patterns(
    condition: syntax.Expression, patterns: Sequence[syntax.Pattern]
) -> list[tuple[syntax.Pattern, syntax.Expression | syntax.Range | None]]:
    """Every pattern and place that a normalised condition asks the database about."""
    match condition:
        case syntax.And(operands=operands) | syntax.Or(operands=operands):
            return [found for operand in operands for found in placed_patterns(operand, patterns)]
        case syntax.Not(operand=operand):
            return placed_patterns(operand, patterns)
        case syntax.Match() | syntax.Of():
            asked = [
                (p, condition.place) for p in patterns if p.name in _named(condition, patterns)
            ]
            return [(p, place) for p, place in asked if not is_sought(p, place)]
        case _:
            return []


def _named(
    condition: syntax.Match | syntax.Of, patterns: Sequence[syntax.Pattern]
) -> Collection[str]:
    if isinstance(condition, syntax.Match):
        return {condition.pattern}
    return set(matched_names(condition.patterns, patterns))


def searched_patterns(
    condition: syntax.Expression, patterns: Sequence[syntax.Pattern]
) -> list[syntax.Pattern]:
    """Every pattern that a condition counts, or that is sought at its place."""
    names: set[str] = set()
    for node in walk(condition):
        match node:
            case syntax.Count(pattern=name):
                names.add(name)
            case syntax.Match(place=place) | syntax.Of(place=place):
                asked = _named(node, patterns)
                names.update(p.name for p in patterns if p.name in asked and is_sought(p, place))
    return [p for p in patterns if p.name in names]


def compile_predicate(
    name: str,
    condition: syntax.Expression,
    patterns: Sequence[syntax.Pattern],
    ids: Mapping[HsExpression, int],
    searches: Mapping[str, Search] = MappingProxyType({}),
    lists: Lists | None = None,
) -> Predicate:
    """Generate the function for a normalised, checked condition.

    `ids` gives the database's id of each expression, `searches` what finds each of the
    `searched_patterns`; `name` shows up in tracebacks.
    """
    return Generator(patterns, ids, searches, lists or Lists({})).function(name, condition)


def _reader(term: str) -> str:
    return "read_" + re.sub(r"\W+", "_", term)


class Generator:
    """Turns conditions into Python's syntax; what the code needs beside is gathered on the way."""

    def __init__(
        self,
        patterns: Sequence[syntax.Pattern],
        ids: Mapping[HsExpression, int],
        searches: Mapping[str, Search],
        lists: Lists,
    ) -> None:
        self.terms_read: set[str] = set()
        self.objects: dict[str, Any] = {}
        self._patterns = patterns
        self._by_name = {p.name: p for p in patterns}
        self._ids = ids
        self._searches = searches
        self._lists = lists
        self._temporaries = 0
        self._guards: list[ast.expr] = []

    def function(self, name: str, condition: syntax.Expression) -> Predicate:
        """The whole function of a condition."""
        function = ast.FunctionDef(
            name="when",
            args=ast.arguments(
                posonlyargs=[],
                args=[ast.arg("context"), ast.arg("hits")],
                kwonlyargs=[],
                kw_defaults=[],
                defaults=[],
            ),
            body=[ast.Return(self.truth(condition))],
            decorator_list=[],
        )
        module = ast.fix_missing_locations(ast.Module([function], type_ignores=[]))
        codes = compile(module, f"<{name}>", "exec").co_consts
        code = next(c for c in codes if hasattr(c, "co_code"))
        return Predicate(name, code, frozenset(self.terms_read), self.objects)

    def truth(self, condition: syntax.Expression) -> ast.expr:
        """What a condition comes to."""
        match condition:
            case syntax.And(operands=operands):
                return ast.BoolOp(ast.And(), [self.truth(o) for o in operands])
            case syntax.Or(operands=operands):
                return ast.BoolOp(ast.Or(), [self.truth(o) for o in operands])
            case _:
                return self._leaf(condition)

    def _hit(self, name: str, place: syntax.Expression | syntax.Range | None) -> ast.expr:
        expression = placed(self._by_name[name], place)
        return ast.Compare(
            ast.Constant(self._ids[expression]), [ast.In()], [ast.Name("hits", ast.Load())]
        )

    def _matches(self, names: Sequence[str], place: Place) -> list[ast.expr]:
        """A test for each pattern whether it matches at a place."""
        sought = {name for name in names if is_sought(self._by_name[name], place)}
        bounds = self._bounds(place) if sought else None
        return [
            self._begins(name, bounds) if bounds and name in sought else self._hit(name, place)
            for name in names
        ]

    def _of(self, of: syntax.Of) -> ast.expr:
        names = matched_names(of.patterns, self._patterns)
        hits = self._matches(names, of.place)
        if len(hits) == 1:
            return hits[0]
        if of.quantity in ("any", "all"):
            return ast.BoolOp(ast.Or() if of.quantity == "any" else ast.And(), hits)
        total = ast.Call(ast.Name("sum", ast.Load()), [ast.Tuple(hits, ast.Load())], [])
        return ast.Compare(total, [ast.GtE()], [ast.Constant(of.quantity)])

    def _leaf(self, leaf: syntax.Expression) -> ast.expr:
        """A test behind the guards of its values."""
        outer, self._guards = self._guards, []
        if isinstance(leaf, syntax.Not):
            test: ast.expr = ast.UnaryOp(ast.Not(), self._test(leaf.operand))
        else:
            test = self._test(leaf)
        guards, self._guards = self._guards, outer
        return ast.BoolOp(ast.And(), [*guards, test]) if guards else test

    def _test(self, test: syntax.Expression) -> ast.expr:
        match test:
            case syntax.Match(pattern=name, place=place):
                (match_,) = self._matches([name], place)
                return match_
            case syntax.Of():
                return self._of(test)
            case syntax.Comparison(operator=sign, left=left, right=right):
                return ast.Compare(self._value(left), [_COMPARISON[sign]()], [self._value(right)])
            case syntax.TextComparison():
                return self._text_comparison(test)
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
        search = self._object(self._searches[name])
        return _call(search, "count", _PAYLOAD, *bounds, ast.Constant(limit))

    def _object(self, value: object) -> ast.expr:
        """A code object's constants are plain values; anything else gets a name instead."""
        name = f"object_{len(self.objects)}"
        self.objects[name] = value
        return ast.Name(name, ast.Load())

    def _member(self, member: syntax.Member) -> ast.expr:
        operand = self._value(member.operand)
        match member.container:
            case syntax.Choice(items=items):
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
            ast.Name(_reader(term.name), ast.Load()),
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
