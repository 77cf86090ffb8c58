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
from collections.abc import Callable, Collection, Mapping, Sequence
from types import CodeType, FunctionType
from typing import Any

from engine.compiler.expression import HsExpression, placed
from engine.fields import VOCABULARY, Context
from engine.language import syntax
from engine.language.checker import matched_names

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

    __slots__ = ("_code", "_name", "_networks", "_terms", "when")

    when: Callable[[Context, Collection[int]], bool]

    def __init__(
        self, name: str, code: CodeType, terms: Collection[str], networks: Mapping[str, Any]
    ) -> None:
        """`terms` are the fields that the code reads, `networks` the constants it names."""
        self._name, self._code = name, code
        self._terms, self._networks = terms, networks
        readers = {_reader(term): VOCABULARY[term].read for term in terms}
        names = {"__builtins__": {"len": len, "sum": sum}, **readers, **networks}
        self.when = FunctionType(code, names, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self._name, marshal.dumps(self._code), self._terms, self._networks)


def _restore(
    name: str, code: bytes, terms: Collection[str], networks: Mapping[str, Any]
) -> Predicate:
    return Predicate(name, marshal.loads(code), terms, networks)


def placed_patterns(
    condition: syntax.Expression, patterns: Sequence[syntax.Pattern]
) -> list[tuple[syntax.Pattern, syntax.Expression | syntax.Range | None]]:
    """Every pattern and place that the predicate of a normalised condition asks about."""
    match condition:
        case syntax.And(operands=operands) | syntax.Or(operands=operands):
            return [found for operand in operands for found in placed_patterns(operand, patterns)]
        case syntax.Not(operand=operand):
            return placed_patterns(operand, patterns)
        case syntax.Match(pattern=name, place=place):
            return [(p, place) for p in patterns if p.name == name]
        case syntax.Of(patterns=names, place=place):
            matched = matched_names(names, patterns)
            return [(p, place) for p in patterns if p.name in matched]
        case _:
            return []


def compile_predicate(
    name: str,
    condition: syntax.Expression,
    patterns: Sequence[syntax.Pattern],
    ids: Mapping[HsExpression, int],
) -> Predicate:
    """Generate the function for a normalised, checked condition.

    `ids` gives the database's id of each expression; `name` shows up in tracebacks.
    """
    generator = _Generator(patterns, ids)
    body = generator.truth(condition)
    function = ast.FunctionDef(
        name="when",
        args=ast.arguments(
            posonlyargs=[],
            args=[ast.arg("context"), ast.arg("hits")],
            kwonlyargs=[],
            kw_defaults=[],
            defaults=[],
        ),
        body=[ast.Return(body)],
        decorator_list=[],
    )
    module = ast.fix_missing_locations(ast.Module([function], type_ignores=[]))
    code = next(c for c in compile(module, f"<{name}>", "exec").co_consts if hasattr(c, "co_code"))
    return Predicate(name, code, frozenset(generator.terms_read), generator.networks)


def _reader(term: str) -> str:
    return "read_" + re.sub(r"\W+", "_", term)


class _Generator:
    def __init__(
        self,
        patterns: Sequence[syntax.Pattern],
        ids: Mapping[HsExpression, int],
    ) -> None:
        self.terms_read: set[str] = set()
        self.networks: dict[str, Any] = {}
        self._patterns = patterns
        self._by_name = {p.name: p for p in patterns}
        self._ids = ids
        self._temporaries = 0
        self._guards: list[ast.expr] = []

    def truth(self, condition: syntax.Expression) -> ast.expr:
        match condition:
            case syntax.And(operands=operands):
                return ast.BoolOp(ast.And(), [self.truth(o) for o in operands])
            case syntax.Or(operands=operands):
                return ast.BoolOp(ast.Or(), [self.truth(o) for o in operands])
            case syntax.Match():
                return self._hit(condition.pattern, condition.place)
            case syntax.Not(operand=syntax.Match() as match):
                return ast.UnaryOp(ast.Not(), self._hit(match.pattern, match.place))
            case syntax.Of():
                return self._of(condition)
            case syntax.Not(operand=syntax.Of() as of):
                return ast.UnaryOp(ast.Not(), self._of(of))
            case _:
                return self._leaf(condition)

    def _hit(self, name: str, place: syntax.Expression | syntax.Range | None) -> ast.expr:
        expression = placed(self._by_name[name], place)
        return ast.Compare(
            ast.Constant(self._ids[expression]), [ast.In()], [ast.Name("hits", ast.Load())]
        )

    def _of(self, of: syntax.Of) -> ast.expr:
        hits = [self._hit(n, of.place) for n in matched_names(of.patterns, self._patterns)]
        if len(hits) == 1:
            return hits[0]
        if of.quantity in ("any", "all"):
            return ast.BoolOp(ast.Or() if of.quantity == "any" else ast.And(), hits)
        total = ast.Call(ast.Name("sum", ast.Load()), [ast.Tuple(hits, ast.Load())], [])
        return ast.Compare(total, [ast.GtE()], [ast.Constant(of.quantity)])

    def _leaf(self, leaf: syntax.Expression) -> ast.expr:
        """A comparison, membership or truth-valued term behind the guards of its values."""
        outer, self._guards = self._guards, []
        match leaf:
            case syntax.Comparison(operator=operator, left=left, right=right):
                test: ast.expr = ast.Compare(
                    self._value(left), [_COMPARISON[operator]()], [self._value(right)]
                )
            case syntax.Not(operand=syntax.Member() as member):
                test = ast.UnaryOp(ast.Not(), self._member(member))
            case syntax.Member():
                test = self._member(leaf)
            case syntax.Not(operand=operand):
                test = ast.UnaryOp(ast.Not(), self._value(operand))
            case _:
                test = self._value(leaf)
        guards, self._guards = self._guards, outer
        return ast.BoolOp(ast.And(), [*guards, test]) if guards else test

    def _member(self, member: syntax.Member) -> ast.expr:
        operand = self._value(member.operand)
        match member.container:
            case syntax.Choice(items=items):
                container: ast.expr = ast.Tuple([self._value(i) for i in items], ast.Load())
            case syntax.Network(value=network):
                # A code object's constants are plain values; a network gets a name instead.
                name = f"network_{len(self.networks)}"
                self.networks[name] = network
                container = ast.Name(name, ast.Load())
            case syntax.Range():
                raise AssertionError("normalised conditions have no ranges")
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
            payload = ast.Attribute(ast.Name("context", ast.Load()), "payload", ast.Load())
            return ast.Call(ast.Name("len", ast.Load()), [payload], [])
        self.terms_read.add(term.name)
        call = ast.Call(
            ast.Name(_reader(term.name), ast.Load()),
            [ast.Name("context", ast.Load()), *(self._value(a) for a in term.arguments)],
            [],
        )
        if field.certain:
            return call
        return self._guarded(call, lambda v: ast.Compare(v, [ast.IsNot()], [ast.Constant(None)]))

    def _guarded(self, value: ast.expr, test: Callable[[ast.expr], ast.expr]) -> ast.expr:
        """Keep a value in a temporary and add a guard on it; gives the temporary."""
        name = f"t{self._temporaries}"
        self._temporaries += 1
        self._guards.append(
            ast.BoolOp(
                ast.And(),
                [
                    # A tuple is always true: it only binds the name before the test.
                    ast.Tuple([ast.NamedExpr(ast.Name(name, ast.Store()), value)], ast.Load()),
                    test(ast.Name(name, ast.Load())),
                ],
            )
        )
        return ast.Name(name, ast.Load())


_ZERO = ast.Constant(0)
