"""Why parts of a condition came to what they did: where patterns stand, why a value is missing."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from engine.compiler.database import locate
from engine.compiler.evaluation import Evaluation
from engine.compiler.expression import placed
from engine.fields import Context
from engine.fields.views import VIEWS
from engine.language import syntax
from engine.language.places import Place, place_bounds
from engine.language.values import constant

_SHOWN = 5


def annotate(
    evaluation: Evaluation, context: Context, patterns: Mapping[str, syntax.Pattern]
) -> Evaluation:
    """The same evaluation with its notes; `context` is the one it was made from."""
    return replace(
        evaluation,
        parts=tuple(annotate(part, context, patterns) for part in evaluation.parts),
        note=_note(evaluation, context, patterns),
    )


def begins_within(place: Place, parts: Sequence[Evaluation]) -> tuple[int, int] | None:
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


def _note(evaluation: Evaluation, context: Context, patterns: Mapping[str, syntax.Pattern]) -> str:
    match evaluation.node:
        case syntax.Match(pattern=name, place=place):
            if evaluation.value is not None:
                bounds = begins_within(place, evaluation.parts)
                found = evaluation.value
                return _whereabouts(patterns[name], bounds, context.payload, found=found)
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
    pattern: syntax.Pattern, bounds: tuple[int, int] | None, payload: bytes, *, found: bool
) -> str:
    """Where a pattern stands, in its place or elsewhere."""
    offsets = locate(placed(pattern, None), payload)
    if offsets is None:
        return ""
    if found:
        low, high = bounds or (0, 0)
        inside = [offset for offset in offsets if low <= offset < high]
        return f"at {_listed(inside)}" if inside else ""
    if offsets:
        return f"it stands at {_listed(offsets)}"
    return f"nowhere in {_bytes(len(payload))}"


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
