"""Turns Lark's parse tree into nodes: a method a grammar rule."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

import lark

from engine.language import syntax
from engine.language.diagnostics import Diagnostic, Fragment, MistakeError, Span
from engine.language.regex import MAX_POSITIONS, RegexError, check_regex, written_out

MAX_HEX_JUMP_B = 1024

_NUMBER_LIMIT = 1 << 64

# Bit operators bind tighter than comparisons (as in Python, not as in C), so that
# `u8(0) & 0x0f == 1` means what it looks like.
PRECEDENCE = {
    "|": 1,
    "^": 2,
    "&": 3,
    "<<": 4,
    ">>": 4,
    "+": 5,
    "-": 5,
    "*": 6,
    "/": 6,
    "%": 6,
}

# Tokens that say no more than the rule they stand in.
_BRACKETS = {"LPAR", "RPAR", "LSQB", "RSQB", "LBRACE", "RBRACE", "COMMA", "DOT", "_DOTS", "EQUAL"}
_WORDS = {"AND", "OR", "NOT", "IN", "AT", "OF", "COUNT", "KNOWN", "REPEAT", "THEM"}
_SIGNS = frozenset(_BRACKETS | _WORDS)

_ESCAPES = {"n": 10, "r": 13, "t": 9, "0": 0, "\\": 92, '"': 34, "/": 47}
_ESCAPE = re.compile(r"\\(x[0-9A-Fa-f]{2}|.)", re.DOTALL)


_SHORTER = "shorter repeats do: streams are inspected up to 2048 bytes"


class Builder:
    """Folds one tree; each method gets the rule's place and its finished children."""

    def __init__(self, fragment: Fragment) -> None:
        self._fragment = fragment

    def fold(self, tree: lark.Tree[lark.Token]) -> Any:
        """Build bottom-up; children of a subtree are always finished before it."""
        # Of each finished subtree: its first and last token, and what it became.
        done: dict[int, tuple[lark.Token | None, lark.Token | None, Any]] = {}
        for subtree in _post_order(tree):
            items: list[Any] = []
            first = last = None
            for child in subtree.children:
                if isinstance(child, lark.Tree):
                    begin, last, item = done.pop(id(child))
                    items.append(item)
                else:
                    begin = last = child
                    if child.type not in _SIGNS:
                        items.append(child)
                first = first or begin
            span = self._span(first, last)
            done[id(subtree)] = first, last, getattr(self, subtree.data)(span, items)
        return done[id(tree)][2]

    def _span(self, first: lark.Token | None, last: lark.Token | None) -> Span:
        if first is None or last is None:
            return self._fragment.whole()
        # The lexer has filled all four in.
        return self._fragment.span(first.line, first.column, last.end_line, last.end_column)  # type: ignore[arg-type]

    def _mistake(self, code: str, message: str, span: Span, hint: str = "") -> MistakeError:
        return MistakeError(Diagnostic(code, message, self._fragment.source, span, hint))

    def _bytes(self, token: lark.Token) -> bytes:
        """The bytes of a quoted text: C escapes, everything else as UTF-8."""
        out = bytearray()
        position = 0
        text = token[1:-1]
        for escape in _ESCAPE.finditer(text):
            out += text[position : escape.start()].encode()
            position = escape.end()
            body = escape[1]
            if len(body) == 3:
                out.append(int(body[1:], 16))
            elif body in _ESCAPES:
                out.append(_ESCAPES[body])
            else:
                span = self._span(token, token)
                start = span.column + 1 + escape.start()
                raise self._mistake(
                    "S017",
                    f"unknown escape `\\{body}`",
                    Span(span.line, start, span.line, start + 2),
                    r"known: \n \r \t \0 \\ \" \xHH",
                )
        return bytes(out + text[position:].encode())

    def _integer(self, token: lark.Token) -> int:
        # Leading zeros mean nothing, and Python refuses to read thousands of digits.
        hexadecimal = token[:2].lower() == "0x"
        value = int(token, 16) if hexadecimal else int(token.lstrip("0")[:21] or "0")
        if value >= _NUMBER_LIMIT:
            raise self._mistake("S016", "numbers end at 2^64 - 1", self._span(token, token))
        return value

    # --- patterns

    def patterns(self, span: Span, items: list[Any]) -> tuple[syntax.Pattern, ...]:
        return tuple(items)

    def definition(self, span: Span, items: list[Any]) -> syntax.Pattern:
        name, body, *modifiers = items
        return syntax.Pattern(name=str(name), body=body, nocase=bool(modifiers), span=span)

    def text_body(self, span: Span, items: list[Any]) -> syntax.TextBody:
        value = self._bytes(items[0])
        return syntax.TextBody(value=value, span=span)

    def regex_body(self, span: Span, items: list[Any]) -> syntax.RegexBody:
        written = str(items[0])[1:-1]
        try:
            check_regex(written)
        except RegexError as error:
            column = span.column + 1 + error.offset
            raise self._mistake(
                "S023" if error.too_large else "S019",
                error.reason,
                Span(span.line, column, span.line, column + 1),
                _SHORTER if error.too_large else r"the character itself is written `\(` or `\)`",
            ) from None
        return syntax.RegexBody(expression=written.replace(r"\/", "/"), span=span)

    def hex_body(self, span: Span, items: list[Any]) -> syntax.HexBody:
        body = syntax.HexBody(items=tuple(items), span=span)
        if written_out(body) > MAX_POSITIONS:
            message = f"written out, this is longer than {MAX_POSITIONS} bytes"
            raise self._mistake("S023", message, span, _SHORTER)
        return body

    def hex_byte(self, span: Span, items: list[Any]) -> syntax.HexByte:
        digits = str(items[0])
        mask = sum(0xF << shift for shift, c in ((4, digits[0]), (0, digits[1])) if c != "?")
        return syntax.HexByte(value=int(digits.replace("?", "0"), 16), mask=mask, span=span)

    def hex_jump(self, span: Span, items: list[Any]) -> syntax.HexJump:
        bounds = [self._integer(t) for t in items if t.type == "INTEGER"]
        low, high = bounds[0], bounds[-1]
        if not low <= high <= MAX_HEX_JUMP_B:
            raise self._mistake(
                "S016", f"a jump goes from few to many bytes, at most {MAX_HEX_JUMP_B}", span
            )
        return syntax.HexJump(low=low, high=high, span=span)

    def hex_option(self, span: Span, items: list[Any]) -> tuple[syntax.HexItem, ...]:
        return tuple(items)

    def hex_choice(self, span: Span, items: list[Any]) -> syntax.HexChoice:
        options = tuple(item for item in items if isinstance(item, tuple))
        return syntax.HexChoice(options=options, span=span)

    # --- conditions

    def or_(self, span: Span, items: list[Any]) -> syntax.Or:
        return syntax.Or(operands=tuple(items), span=span)

    def and_(self, span: Span, items: list[Any]) -> syntax.And:
        return syntax.And(operands=tuple(items), span=span)

    def not_(self, span: Span, items: list[Any]) -> syntax.Not:
        return syntax.Not(operand=items[0], span=span)

    def comparison(self, span: Span, items: list[Any]) -> syntax.Comparison:
        left, operator, right = items
        return syntax.Comparison(operator=operator.value, left=left, right=right, span=span)

    def text_comparison(self, span: Span, items: list[Any]) -> syntax.TextComparison:
        left, operator, right = items
        return syntax.TextComparison(operator=operator.value, left=left, right=right, span=span)

    def matches(self, span: Span, items: list[Any]) -> syntax.Matches:
        text, operator, regex = items
        return syntax.Matches(text=text, regex=regex, nocase=operator == "imatches", span=span)

    def count(self, span: Span, items: list[Any]) -> syntax.Count:
        place = items[1] if len(items) > 1 else None
        return syntax.Count(pattern=str(items[0]), place=place, span=span)

    def known(self, span: Span, items: list[Any]) -> syntax.Known:
        return syntax.Known(operand=items[0], span=span)

    def member(self, span: Span, items: list[Any]) -> syntax.Member:
        return syntax.Member(operand=items[0], container=items[1], span=span)

    def not_member(self, span: Span, items: list[Any]) -> syntax.Not:
        return syntax.Not(operand=self.member(span, items), span=span)

    def range(self, span: Span, items: list[Any]) -> syntax.Range:
        return syntax.Range(low=items[0], high=items[1], span=span)

    def choice(self, span: Span, items: list[Any]) -> syntax.Choice:
        return syntax.Choice(items=tuple(items), span=span)

    def list_reference(self, span: Span, items: list[Any]) -> syntax.ListReference:
        return syntax.ListReference(name=str(items[0])[1:], span=span)

    def network(self, span: Span, items: list[Any]) -> syntax.Network:
        try:
            network = ipaddress.ip_network(str(items[0]), strict=False)
        except ValueError as error:
            raise self._mistake("S016", f"not a network: {error}", span) from None
        if network.network_address != ipaddress.ip_address(str(items[0]).split("/")[0]):
            hint = f"did you mean `{network}`?"
            raise self._mistake("S016", "this is a host in a network", span, hint)
        return syntax.Network(value=network, span=span)

    def match(self, span: Span, items: list[Any]) -> syntax.Match:
        place = items[1] if len(items) > 1 else None
        return syntax.Match(pattern=str(items[0]), place=place, span=span)

    def quantity(self, span: Span, items: list[Any]) -> int | Literal["any", "all"]:
        token = items[0]
        if token.type == "INTEGER":
            return self._integer(token)
        return "any" if token.type == "ANY" else "all"

    def pattern_reference(self, span: Span, items: list[Any]) -> str:
        return str(items[0])

    def of(self, span: Span, items: list[Any]) -> syntax.Of:
        quantity, *rest = items
        names = tuple(n for n in rest if isinstance(n, str) and not isinstance(n, lark.Token))
        places = [item for item in rest if isinstance(item, syntax.Node)]
        place = places[0] if places else None
        return syntax.Of(quantity=quantity, patterns=names, place=place, span=span)  # type: ignore[arg-type]

    def group(self, span: Span, items: list[Any]) -> Any:
        """What stands in parentheses takes their place too: it is shown with them."""
        return replace(items[0], span=span)

    def operation(self, _span: Span, items: list[Any]) -> syntax.Arithmetic:
        """`a + b * c` as a tree, by precedence, from left to right among equals."""
        values, waiting = [items[0]], list[lark.Token]()
        for token, value in zip(items[1::2], items[2::2], strict=True):
            while waiting and PRECEDENCE[waiting[-1]] >= PRECEDENCE[token]:
                _apply(waiting.pop(), values)
            waiting.append(token)
            values.append(value)
        while waiting:
            _apply(waiting.pop(), values)
        result: syntax.Arithmetic = values[0]
        return result

    def unary(self, span: Span, items: list[Any]) -> syntax.Unary:
        return syntax.Unary(operator=items[0].value, operand=items[1], span=span)

    def number(self, span: Span, items: list[Any]) -> syntax.Number:
        token = items[0]
        value = float(token) if token.type == "DECIMAL" else self._integer(token)
        if value >= _NUMBER_LIMIT:
            raise self._mistake("S016", "numbers end at 2^64 - 1", span)
        return syntax.Number(value=value, span=span)

    def text(self, span: Span, items: list[Any]) -> syntax.Text:
        return syntax.Text(value=self._bytes(items[0]), span=span)

    def step(self, span: Span, items: list[Any]) -> tuple[str, tuple[Any, ...]]:
        return str(items[0]), items[1] if len(items) > 1 else ()

    def arguments(self, span: Span, items: list[Any]) -> tuple[Any, ...]:
        return tuple(items)

    def term(self, span: Span, items: list[Any]) -> syntax.Term:
        # An index on the way is part of the name: `turn(0).size` is `turn(n).size` of 0.
        *way, (last, _) = items
        steps = [f"{name}({', '.join('n' * len(index))})" if index else name for name, index in way]
        name = ".".join([*steps, last])
        arguments = tuple(argument for step in items for argument in step[1])
        return syntax.Term(name=name, arguments=arguments, span=span)

    # --- payloads

    def payload(self, span: Span, items: list[Any]) -> tuple[Any, ...]:
        return tuple(items)

    def repeat(self, span: Span, items: list[Any]) -> syntax.Repeat:
        times, *parts = items
        return syntax.Repeat(times=times, parts=tuple(parts), span=span)


def _apply(operator: lark.Token, values: list[Any]) -> None:
    right, left = values.pop(), values.pop()
    span = Span(left.span.line, left.span.column, right.span.end_line, right.span.end_column)
    values.append(syntax.Arithmetic(operator=operator.value, left=left, right=right, span=span))


def _post_order(tree: lark.Tree[lark.Token]) -> Iterator[lark.Tree[lark.Token]]:
    """Every subtree, each after its children, without recursion."""
    reversed_pre_order = []
    pending = [tree]
    while pending:
        current = pending.pop()
        reversed_pre_order.append(current)
        pending.extend(child for child in current.children if isinstance(child, lark.Tree))
    return reversed(reversed_pre_order)
