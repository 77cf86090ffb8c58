"""From a normalised condition to one generated function, built as a Python syntax tree.

No text of the author's reaches Python's parser: names become references to a table of
readers, texts and numbers become constants. The function is called

    when(context, hits) -> bool

with the field context and the set of expression ids that matched.
"""

from __future__ import annotations

import ast
import marshal
from collections.abc import Callable, Collection, Mapping, Sequence
from types import CodeType, FunctionType
from typing import Any

from engine.compiler.expression import HsExpression
from engine.compiler.generator import Generator, reader
from engine.compiler.search import NO_SEARCHES, Searches, is_sought
from engine.fields import VOCABULARY, Context
from engine.language import syntax
from engine.language.lists import Lists
from engine.language.places import Place, named_patterns


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
        readers = {reader(term): VOCABULARY[term].read for term in terms}
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
) -> list[tuple[syntax.Pattern, Place]]:
    """Every pattern and place that a normalised condition asks the database about."""
    match condition:
        case syntax.And(operands=operands) | syntax.Or(operands=operands):
            return [found for operand in operands for found in placed_patterns(operand, patterns)]
        case syntax.Not(operand=operand):
            return placed_patterns(operand, patterns)
        case syntax.Match() | syntax.Of():
            named = named_patterns(condition, patterns)
            return [(p, condition.place) for p in named if not is_sought(p, condition.place)]
        case _:
            return []


def compile_predicate(
    name: str,
    condition: syntax.Expression,
    patterns: Sequence[syntax.Pattern],
    ids: Mapping[HsExpression, int],
    searches: Searches = NO_SEARCHES,
    lists: Lists | None = None,
) -> Predicate:
    """Generate the function for a normalised, checked condition.

    `ids` gives the database's id of each expression, `searches` what the condition looks for
    besides; `name` shows up in tracebacks.
    """
    return function_of(Generator(patterns, ids, searches, lists or Lists({})), name, condition)


def function_of(generator: Generator, name: str, condition: syntax.Expression) -> Predicate:
    """The function that returns what a generator makes of a condition."""
    function = ast.FunctionDef(
        name="when",
        args=ast.arguments(
            posonlyargs=[],
            args=[ast.arg("context"), ast.arg("hits")],
            kwonlyargs=[],
            kw_defaults=[],
            defaults=[],
        ),
        body=[ast.Return(generator.truth(condition))],
        decorator_list=[],
    )
    module = ast.fix_missing_locations(ast.Module([function], type_ignores=[]))
    codes = compile(module, f"<{name}>", "exec").co_consts
    code = next(c for c in codes if hasattr(c, "co_code"))
    return Predicate(name, code, frozenset(generator.terms_read), generator.objects)
