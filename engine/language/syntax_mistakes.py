"""What an author is told where parsing stopped: what stands there, and what could."""

from __future__ import annotations

import re
from typing import get_args

import lark

from engine.language import syntax
from engine.language.diagnostics import Diagnostic, Fragment, nearest
from engine.language.vocabulary import KEYWORDS

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

# Operators of other languages, where ours is a word or another sign.
_FOREIGN = {"&": "and", "|": "or", "!": "not", "=": "=="}

# What is written elsewhere, or otherwise.
_OUT_OF_PLACE = {
    "[": "arguments stand in parentheses: `u8(0)`",
    ",": "a list stands in brackets: `[80, 443]`",
    "nocase": "it belongs to the pattern: `$a = ... nocase`",
}
_NAMED = "a pattern needs a name: `$a = ...` under `patterns`, and `$a` here"
_ADDRESS = re.compile(r"[0-9]+\.[0-9]+\.[0-9.]+|[0-9A-Fa-f]*:[0-9A-Fa-f:]+")


def syntax_mistake(error: lark.exceptions.UnexpectedInput, fragment: Fragment) -> Diagnostic:
    """Put one of the parser's findings into our words."""
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
    hint = _remedy(error, word, accepted, lines[line - 1], column)
    # What cannot be seen is named by its code point.
    shown = word if word.isprintable() and word != "\N{NO-BREAK SPACE}" else f"U+{ord(word):04X}"
    what = f"`{shown}`" if word else "the end of the text"
    span = fragment.span(line, column, line, column + max(1, len(word)))
    return Diagnostic("S010", f"{what} is not expected here", fragment.source, span, hint)


def _remedy(
    error: lark.exceptions.UnexpectedInput,
    word: str,
    accepted: set[str],
    line: str,
    column: int,
) -> str:
    """What to write instead, as far as that can be guessed."""
    keywords = {name.lower() for name in accepted} & KEYWORDS
    if "TEXT_OPERATOR" in accepted:
        keywords |= {*get_args(syntax.TextOperator), "matches", "imatches"}
    before = _kind_before(error)
    in_condition = "NAME" in accepted and before != "EQUAL"
    is_word = word.isalpha() and word not in KEYWORDS
    if is_word and (meant := nearest(word, keywords)).startswith("did you mean"):
        return meant
    if word in _FOREIGN and ("COMPARISON" if word == "=" else "NAME") in accepted:
        return f"did you mean `{_FOREIGN[word]}`?"
    if (word == '"' and "STRING" in accepted) or (word == "/" and "REGEX" in accepted):
        return f"the closing `{word}` is missing in this line"
    if word == "'" and "STRING" in accepted:
        return 'a text stands in double quotes: `"..."`'
    if word in _OUT_OF_PLACE and "AND" in accepted:
        return _OUT_OF_PLACE[word]
    if word == "*" and before in ("STRING", "RBRACE"):
        return 'write `repeat(20, "...")`'
    if any(found.start() < column <= found.end() for found in _ADDRESS.finditer(line)):
        return "addresses and networks stand after `in`: `src.ip in 10.0.0.1`"
    if word == "/" and in_condition and before == "COMPARISON":
        return "write `matches` before a regular expression: `http.host matches /.../`"
    if (word in ("{", "/") and in_condition) or (word == "at" and before in ("STRING", "REGEX")):
        return _NAMED
    if word in ("<", ">", "=", "!") and "AND" in accepted:
        if before == "PATTERN":
            return "how often a pattern matches is `count($a)`"
        return "compare one pair at a time: `4 <= size and size < 8`, or `size in 4..8`"
    if "_DOTS" in accepted and "COMPARISON" not in accepted:
        return "after `in` stands a range, `0..4`, or a list, `[0, 4]`"
    expected = sorted(_EXPECTED[name] for name in accepted if name in _EXPECTED)
    return "expected " + " or ".join(expected) if 0 < len(expected) <= 6 else ""


def _kind_before(error: lark.exceptions.UnexpectedInput) -> str:
    """What kind of token was read last."""
    history: list[lark.Token | None] = getattr(error, "token_history", None) or [None]
    return "" if history[-1] is None else history[-1].type
