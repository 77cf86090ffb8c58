"""From the text of a signature to its abstract syntax.

Parsing is LALR and building goes bottom-up, so no depth of nesting can exhaust Python's
stack here; `MAX_DEPTH` and `MAX_TEXT_B` then bound what later stages recurse into.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import lark

from engine.language import syntax
from engine.language.builder import Builder
from engine.language.diagnostics import Diagnostic, Fragment, MistakeError
from engine.language.syntax_mistakes import syntax_mistake

MAX_TEXT_B = 16384
MAX_DEPTH = 64


def parse_patterns(fragment: Fragment) -> tuple[syntax.Pattern, ...]:
    """Parse a `patterns` text. Raises MistakeError."""
    patterns: tuple[syntax.Pattern, ...] = _parse("patterns", fragment)
    return patterns


def parse_condition(fragment: Fragment) -> syntax.Expression:
    """Parse a `when` text. Raises MistakeError."""
    condition: syntax.Expression = _parse("condition", fragment)
    return condition


def parse_payload(fragment: Fragment) -> tuple[syntax.PayloadPart, ...]:
    """Parse the `payload` of a test. Raises MistakeError."""
    parts: tuple[syntax.PayloadPart, ...] = _parse("payload", fragment)
    return parts


def children(node: syntax.Node) -> Iterator[syntax.Node]:
    """The nodes directly below `node`."""
    for name in _field_names(node.__class__):  # type: ignore[arg-type]
        value = getattr(node, name)
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, syntax.Node):
                yield item
            elif isinstance(item, tuple):
                yield from item


@functools.cache
def _field_names(kind: type[syntax.Node]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind) if field.name != "span")


def walk(node: syntax.Node) -> Iterator[syntax.Node]:
    """`node` and all below it, without recursion."""
    pending = [node]
    while pending:
        current = pending.pop()
        yield current
        pending.extend(children(current))


def _parse(start: str, fragment: Fragment) -> Any:
    if len(fragment.text) > MAX_TEXT_B:
        raise MistakeError(
            Diagnostic(
                "S023",
                f"{len(fragment.text)} characters are too many, the limit is {MAX_TEXT_B}",
                fragment.source,
                fragment.whole(),
                "split the signature in two",
            )
        )
    try:
        result = Builder(fragment).fold(_parser().parse(fragment.text, start=start))
    except lark.exceptions.UnexpectedInput as error:
        raise MistakeError(syntax_mistake(error, fragment)) from None
    _check_depth(result, fragment)
    return result


@functools.cache
def _parser() -> lark.Lark:
    return lark.Lark(
        (Path(__file__).with_name("grammar.lark")).read_text("utf-8"),
        parser="lalr",
        start=["patterns", "condition", "payload"],
        keep_all_tokens=True,
        maybe_placeholders=False,
        cache=False,
    )


def _check_depth(result: Any, fragment: Fragment) -> None:
    if len(fragment.text) <= MAX_DEPTH:  # every level takes a character
        return
    pending = [(node, 1) for node in (result if isinstance(result, tuple) else (result,))]
    while pending:
        node, depth = pending.pop()
        if depth > MAX_DEPTH:
            raise MistakeError(
                Diagnostic(
                    "S023",
                    f"nested more than {MAX_DEPTH} deep",
                    fragment.source,
                    node.span,
                    "split the signature in two",
                )
            )
        pending.extend((child, depth + 1) for child in children(node))
