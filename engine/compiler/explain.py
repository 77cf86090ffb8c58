"""Conditions evaluated as they are written, with every value on the way, in three-valued logic.

Slow, and for authors' eyes: what packets are judged by is the compiled form. Fields are read
by the same readers and patterns matched by the same expressions, so both give one answer.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine.compiler.database import Database, locate
from engine.compiler.expression import placed
from engine.compiler.normal import normalise
from engine.compiler.predicate import MAX_COUNT, placed_patterns, searched_patterns
from engine.compiler.search import search_for
from engine.fields import VOCABULARY, Context
from engine.fields.views import VIEWS
from engine.language import syntax
from engine.language.document import Signature
from engine.language.lists import Lists
from engine.language.places import Place, matched_names, place_bounds
from engine.language.values import calculate, constant, static_type

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
_SHOWN = 5


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


class Explainer:
    """Evaluates the condition of one signature."""

    def __init__(self, signature: Signature, lists: Lists | None = None) -> None:
        """Compile the patterns of a signature that is part of a RuleSet; `lists` are the set's."""
        self._lists = lists or Lists({})
        self.signature = signature
        self._patterns = {pattern.name: pattern for pattern in signature.patterns}
        normal = normalise(signature.condition)
        self._searches = {
            pattern.name: search_for(pattern)
            for pattern in searched_patterns(normal, signature.patterns)
        }
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
        return replace(
            evaluation,
            parts=tuple(self.annotate(part, context) for part in evaluation.parts),
            note=self._note(evaluation, context),
        )

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
            case syntax.Member(operand=operand, container=syntax.Range(low=low, high=high)):
                parts = inner([operand, low, high])
                value = _all(
                    [
                        _compare(">=", parts[0].value, parts[1].value),
                        _compare("<", parts[0].value, parts[2].value),
                    ]
                )
            case syntax.Member(operand=operand, container=syntax.Choice(items=items)):
                parts = inner([operand, *items])
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
                count = self._count(name, _range(place, parts), context, limit=1)
                value = None if count is None else count > 0
            case syntax.Count(pattern=name, place=place):
                parts = inner(place_bounds(place))
                value = self._count(name, _range(place, parts), context, limit=MAX_COUNT)
            case syntax.Of():
                parts = inner(self._members(node))
                known = None not in [part.value for part in parts]
                value = sum(p.value for p in parts) >= _needed(node, len(parts)) if known else None
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
        return self._searches[name].count(context.payload, *bounds, limit)

    def _members(self, of: syntax.Of) -> list[syntax.Match]:
        names = matched_names(of.patterns, list(self._patterns.values()))
        return [syntax.Match(pattern=name, place=of.place, span=of.span) for name in names]

    def _note(self, evaluation: Evaluation, context: Context) -> str:
        match evaluation.node:
            case syntax.Match(pattern=name, place=place):
                if evaluation.value is not None:
                    bounds = _range(place, evaluation.parts)
                    found = evaluation.value
                    return self._whereabouts(name, bounds, context.payload, found=found)
            case syntax.Of():
                return _counted(evaluation.parts) if evaluation.value is not None else ""
        if evaluation.value is not None or any(part.value is None for part in evaluation.parts):
            return ""  # known, or unknown because of a part that says why itself
        match evaluation.node:
            case syntax.Term(name=name):
                return _absence(name, [part.value for part in evaluation.parts], context)
            case syntax.Arithmetic(operator="/" | "%"):
                return "a division by zero"
            case syntax.Arithmetic():
                return f"a shift by {evaluation.parts[1].value} bits; from 0 to 63 there are"
        return ""

    def _whereabouts(
        self, name: str, bounds: tuple[int, int] | None, payload: bytes, *, found: bool
    ) -> str:
        """Where a pattern stands, in its place or elsewhere."""
        offsets = locate(placed(self._patterns[name], None), payload)
        if offsets is None:
            return ""
        if found:
            low, high = bounds or (0, 0)
            inside = [offset for offset in offsets if low <= offset < high]
            return f"at {_listed(inside)}" if inside else ""
        if offsets:
            return f"it stands at {_listed(offsets)}"
        return f"nowhere in {_bytes(len(payload))}"


def _all(truths: Iterable[bool | None]) -> bool | None:
    found = list(truths)
    return False if False in found else None if None in found else True


def _any(truths: Iterable[bool | None]) -> bool | None:
    found = list(truths)
    return True if True in found else None if None in found else False


def _compare(sign: syntax.ComparisonOperator, left: Any, right: Any) -> bool | None:
    return None if left is None or right is None else _COMPARE[sign](left, right)


def _needed(of: syntax.Of, patterns: int) -> int:
    match of.quantity:
        case "any":
            return 1
        case "all":
            return patterns
        case number:
            return number


def _range(place: Place, parts: Sequence[Evaluation]) -> tuple[int, int] | None:
    """Where a pattern may begin, from and before; `parts` are its computed bounds, if any are."""
    bounds = [part.value for part in parts] or [constant(b) for b in place_bounds(place)]
    match bounds:
        case []:
            return 0, sys.maxsize
        case [int(offset)]:
            return offset, offset + 1
        case [int(low), int(high)]:
            return low, high
        case _:
            return None


def _compare_texts(wording: str, left: bytes | None, right: bytes | None) -> bool | None:
    if left is None or right is None:
        return None
    if wording.startswith("i"):
        left, right, wording = left.lower(), right.lower(), wording[1:]
    return _COMPARE_TEXTS[wording](left, right)


def _counted(parts: Sequence[Evaluation]) -> str:
    """How many patterns of a set matched, and which did not."""
    missing = [p.node.pattern for p in parts if isinstance(p.node, syntax.Match) and not p.value]
    note = f"{len(parts) - len(missing)} of {len(parts)}"
    return f"{note}, without {_listed(missing)}" if missing else note


def _absence(name: str, arguments: Sequence[Any], context: Context) -> str:
    """Why a field has no value, although everything it is asked with has one."""
    view = VIEWS.get(name.partition(".")[0])
    if view is not None:
        return f"not {view.noun}" if context.view(view.parse) is None else f"{view.noun} without it"
    if name == "flow.from_client":
        return "the beginning of the flow was not seen"
    if not name.startswith("turn("):
        return _outside(arguments, context.payload)
    turn, *where = arguments
    if context.turns.size(turn) is None:
        return f"turn {turn} has not begun"
    return _outside(where, context.turns.head(turn) or b"")


def _outside(where: Sequence[int], data: bytes) -> str:
    """Why there is nothing at (offset, length) or at an offset."""
    if where[0] < 0:
        return f"offset {where[0]} is before the start"
    if where[1:] and where[1] < 1:
        return f"there are no {where[1]} bytes"
    return f"past the end of {_bytes(len(data))}"


def _listed(items: Sequence[object]) -> str:
    shown = ", ".join(map(str, items[:_SHOWN]))
    return f"{shown} and {len(items) - _SHOWN} more" if len(items) > _SHOWN else shown


def _bytes(count: int) -> str:
    return f"{count} byte" if count == 1 else f"{count} bytes"
