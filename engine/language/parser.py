"""From the text of a signature to its abstract syntax.

Parsing is LALR and building goes bottom-up, so no depth of nesting can exhaust Python's
stack here; `MAX_DEPTH` and `MAX_TEXT_B` then bound what later stages recurse into.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import lark

from engine.language import syntax
from engine.language.builder import Builder
from engine.language.diagnostics import Diagnostic, Fragment, MistakeError, nearest

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


def parse_payload(fragment: Fragment) -> tuple[syntax.Node, ...]:
    """Parse the `payload` of a test: TextBody, HexBody and Term nodes. Raises MistakeError."""
    parts: tuple[syntax.Node, ...] = _parse("payload", fragment)
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
        raise MistakeError(_syntax_diagnostic(error, fragment)) from None
    _check_depth(result, fragment)
    return result


@functools.cache
def _parser() -> lark.Lark:
    return lark.Lark(
        (Path(__file__).with_name("grammar.lark")).read_text("utf-8"),
        parser="lalr",
        start=["patterns", "condition", "payload"],
        propagate_positions=True,
        maybe_placeholders=False,
        cache=False,
    )


_EXPECTED = {
    "STRING": "a text",
    "REGEX": "a regular expression",
    "LBRACE": "a hex pattern",
    "RBRACE": "`}`",
    "HEX_BYTE": "a hex byte",
    "PATTERN": "a pattern name ($...)",
    "INTEGER": "a number",
    "NAME": "a field",
    "LPAR": "`(`",
    "RPAR": "`)`",
    "LSQB": "`[`",
    "RSQB": "`]`",
    "COMPARISON": "a comparison",
    "AND": "`and`",
    "OR": "`or`",
    "EQUAL": "`=`",
    "OF": "`of`",
    "THEM": "`them`",
    "COMMA": "`,`",
    "NETWORK": "a network",
    "NOT": "`not`",
    "$END": "the end",
    "__ANY__": "anything",
}
_KEYWORDS = {"and", "or", "not", "in", "at", "of", "any", "all", "them", "nocase", "count"}

# Operators of other languages, where ours is a word or another sign.
_FOREIGN = {"&": "and", "|": "or", "!": "not", "=": "=="}


def _syntax_diagnostic(error: lark.exceptions.UnexpectedInput, fragment: Fragment) -> Diagnostic:
    accepted: set[str] = set()
    lines = fragment.text.rstrip(" \t\r\n").split("\n")
    line, column, word = len(lines), len(lines[-1]) + 1, ""
    if isinstance(error, lark.exceptions.UnexpectedCharacters):
        accepted = set(error.allowed or ())
        line, column = error.line, error.column
    elif isinstance(error, lark.exceptions.UnexpectedToken):
        accepted = set(error.accepts or error.expected or ())
        if error.token.type != "$END":
            line, column = error.token.line or 1, error.token.column or 1
    # The lexer stops where its terminals stop; people read words.
    if found := re.match(r"\w{1,40}|.", lines[line - 1][column - 1 :]):
        word = found[0]
    expected = sorted(_EXPECTED[name] for name in accepted if name in _EXPECTED)
    hint = "expected " + " or ".join(expected) if 0 < len(expected) <= 6 else ""
    keywords = {name.lower() for name in accepted} & _KEYWORDS
    if "TEXT_OPERATOR" in accepted:
        keywords |= set(get_args(syntax.TextOperator))
    if word.isalpha() and (meant := nearest(word, keywords)).startswith("did you mean"):
        hint = meant
    elif word in _FOREIGN and ("COMPARISON" if word == "=" else "NAME") in accepted:
        hint = f"did you mean `{_FOREIGN[word]}`?"
    elif (word == '"' and "STRING" in accepted) or (word == "/" and "REGEX" in accepted):
        hint = f"the closing `{word}` is missing in this line"
    # What cannot be seen is named by its code point.
    shown = word if word.isprintable() and word != "\N{NO-BREAK SPACE}" else f"U+{ord(word):04X}"
    what = f"`{shown}`" if word else "the end of the text"
    span = fragment.span(line, column, line, column + max(1, len(word)))
    return Diagnostic("S010", f"{what} is not expected here", fragment.source, span, hint)


def _check_depth(result: Any, fragment: Fragment) -> None:
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
