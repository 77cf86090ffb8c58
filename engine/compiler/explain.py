"""Conditions evaluated as they are written, with every value on the way, in three-valued logic.

Slow, and for authors' eyes: what packets are judged by is the compiled form. Fields are read
by the same readers and patterns matched by the same expressions, so both give one answer.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterable
from typing import Any

from engine.compiler.database import Database
from engine.compiler.evaluation import Evaluation
from engine.compiler.expression import placed
from engine.compiler.generator import MAX_COUNT
from engine.compiler.normal import normalise, taken_apart
from engine.compiler.notes import annotate, begins_within
from engine.compiler.predicate import placed_patterns
from engine.compiler.search import find_searches, regex_of
from engine.fields import VOCABULARY, Context
from engine.language import syntax
from engine.language.document import Signature
from engine.language.lists import Lists
from engine.language.places import named_patterns, needed, place_bounds
from engine.language.values import calculate, static_type

_COMPARE: dict[syntax.ComparisonOperator, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_COMPARE_TEXTS: dict[str, Callable[[bytes, bytes], bool]] = {
    "contains": operator.contains,
    "startswith": bytes.startswith,
    "endswith": bytes.endswith,
    "equals": operator.eq,
}


class Explainer:
    """Evaluates the condition of one signature."""

    def __init__(self, signature: Signature, lists: Lists | None = None) -> None:
        """Compile the patterns of a signature that is part of a RuleSet; `lists` are the set's."""
        self._lists = lists or Lists({})
        self.signature = signature
        self._patterns = {pattern.name: pattern for pattern in signature.patterns}
        normal = normalise(signature.condition)
        self._searches = find_searches(normal, signature.patterns)
        placements = placed_patterns(normal, signature.patterns)
        self._ids = {
            (pattern.name, place): number for number, (pattern, place) in enumerate(placements)
        }
        self._database = Database([placed(*placement) for placement in placements])

    def evaluate(self, context: Context) -> Evaluation:
        """What the condition and each of its parts comes to. The notes are left empty."""
        hits = frozenset(self._database.scan(context.payload))
        return self._evaluate(self.signature.condition, context, hits)

    def annotate(self, evaluation: Evaluation, context: Context) -> Evaluation:
        """The same evaluation with its notes; `context` is the one it was made from."""
        return annotate(evaluation, context, self._patterns)

    def _evaluate(
        self, node: syntax.Expression, context: Context, hits: Collection[int]
    ) -> Evaluation:
        def inner(operands: Iterable[syntax.Expression]) -> tuple[Evaluation, ...]:
            return tuple(self._evaluate(operand, context, hits) for operand in operands)

        parts: tuple[Evaluation, ...] = ()
        value: Any
        match node:
            case syntax.Not(operand=operand):
                parts = inner([operand])
                value = None if parts[0].value is None else not parts[0].value
            case syntax.And(operands=operands):
                parts = inner(operands)
                value = _all(part.value for part in parts)
            case syntax.Or(operands=operands):
                parts = inner(operands)
                value = _any(part.value for part in parts)
            case syntax.Comparison(operator=sign, left=left, right=right):
                parts = inner([left, right])
                value = _compare(sign, parts[0].value, parts[1].value)
            case syntax.TextComparison(operator=wording, left=left, right=right):
                parts = inner([left, right])
                value = _compare_texts(wording, parts[0].value, parts[1].value)
            case syntax.Matches(text=text):
                parts = inner([text])
                found = parts[0].value
                regex = self._searches.regexes[regex_of(node)]
                value = None if found is None else bool(regex.scan(found))
            case syntax.Known(operand=operand):
                parts = inner([operand])
                value = parts[0].value is not None
            case syntax.Member(container=syntax.Choice(stretches=(_, *_)) as choice):
                parts = inner(taken_apart(node, choice))
                value = _any(part.value for part in parts)
            case syntax.Member(operand=operand, container=syntax.Range(low=low, high=high)):
                parts = inner([operand, low, high])
                value = _all(
                    [
                        _compare(">=", parts[0].value, parts[1].value),
                        _compare("<", parts[0].value, parts[2].value),
                    ]
                )
            case syntax.Member(operand=operand, container=syntax.Choice(constants=constants)):
                parts = inner([operand, *constants])
                value = _any(_compare("==", parts[0].value, item.value) for item in parts[1:])
            case syntax.Member(operand=operand, container=syntax.Network(value=network)):
                parts = inner([operand])
                value = None if parts[0].value is None else parts[0].value in network
            case syntax.Member(operand=operand, container=syntax.ListReference(name=name)):
                parts = inner([operand])
                entries = self._lists.entries(name, static_type(operand, VOCABULARY))
                value = None if parts[0].value is None else parts[0].value in entries
            case syntax.Match(pattern=name, place=place) if (name, place) in self._ids:
                value = self._ids[name, place] in hits
            case syntax.Match(pattern=name, place=place):
                parts = inner(place_bounds(place))
                count = self._count(name, begins_within(place, parts), context, limit=1)
                value = None if count is None else count > 0
            case syntax.Count(pattern=name, place=place):
                parts = inner(place_bounds(place))
                value = self._count(name, begins_within(place, parts), context, limit=MAX_COUNT)
            case syntax.Of():
                parts = inner(self._members(node))
                known = None not in [part.value for part in parts]
                value = sum(p.value for p in parts) >= needed(node, len(parts)) if known else None
            case syntax.Number(value=value) | syntax.Text(value=value):
                pass
            case syntax.Unary(operator=sign, operand=operand):
                parts = inner([operand])
                number = parts[0].value
                value = None if number is None else -number if sign == "-" else ~number
            case syntax.Arithmetic(operator=sign, left=left, right=right):
                parts = inner([left, right])
                a, b = (part.value for part in parts)
                value = None if a is None or b is None else calculate(sign, a, b)
            case syntax.Term(name=name, arguments=arguments):
                parts = inner(arguments)
                given = [part.value for part in parts]
                value = None if None in given else VOCABULARY[name].read(context, *given)
        return Evaluation(node, value, parts)

    def _count(
        self, name: str, bounds: tuple[int, int] | None, context: Context, *, limit: int
    ) -> int | None:
        if bounds is None:
            return None
        return self._searches.patterns[name].count(context.payload, *bounds, limit)

    def _members(self, of: syntax.Of) -> list[syntax.Match]:
        named = named_patterns(of, self.signature.patterns)
        return [syntax.Match(pattern=p.name, place=of.place, span=of.span) for p in named]


def _all(truths: Iterable[bool | None]) -> bool | None:
    found = list(truths)
    return False if False in found else None if None in found else True


def _any(truths: Iterable[bool | None]) -> bool | None:
    found = list(truths)
    return True if True in found else None if None in found else False


def _compare(sign: syntax.ComparisonOperator, left: Any, right: Any) -> bool | None:
    return None if left is None or right is None else _COMPARE[sign](left, right)


def _compare_texts(wording: str, left: bytes | None, right: bytes | None) -> bool | None:
    if left is None or right is None:
        return None
    if wording.startswith("i"):
        left, right, wording = left.lower(), right.lower(), wording[1:]
    return _COMPARE_TEXTS[wording](left, right)
