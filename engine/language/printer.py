"""Abstract syntax back into text: parsing what is printed gives the same syntax.

Spans are not kept, nor are comments and line breaks; parentheses stand where they are needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal

from engine.language import syntax
from engine.language.builder import PRECEDENCE

# How tightly a node binds; those of arithmetic lie between _SUM and _UNARY.
_OR, _AND, _NOT, _RELATION, _SUM, _UNARY, _ATOM = 1, 2, 3, 4, 5, 20, 21

_INDEX = re.compile(r"\((n(?:, n)*)\)")


def print_patterns(patterns: Iterable[syntax.Pattern]) -> str:
    """A `patterns` text, a definition a line."""
    return "".join(f"{p.name} = {_body(p.body)}{' nocase' if p.nocase else ''}\n" for p in patterns)


def print_payload(parts: Iterable[syntax.PayloadPart]) -> str:
    """The `payload` text of a test, from what `parse_payload` gives."""
    return " ".join(map(_part, parts))


def _part(part: syntax.PayloadPart) -> str:
    match part:
        case syntax.Repeat(times=times, parts=parts):
            return f"repeat({_within(times, _SUM)}, {print_payload(parts)})"
        case syntax.Term():
            return _term(part)
        case _:
            return _body(part)


def print_condition(condition: syntax.Expression) -> str:
    """A `when` text, in one line."""
    return _printed(condition)[0]


def _body(body: syntax.TextBody | syntax.HexBody | syntax.RegexBody) -> str:
    match body:
        case syntax.TextBody(value=value):
            return _quoted(value)
        case syntax.HexBody(items=items):
            return "{ " + _hex(items) + " }"
        case syntax.RegexBody(expression=expression):
            return "/" + re.sub(r"(\\.)|/", lambda m: m[1] or r"\/", expression) + "/"


def _quoted(value: bytes) -> str:
    def shown(byte: int) -> str:
        character = chr(byte)
        if character in '"\\':
            return "\\" + character
        return character if 0x20 <= byte < 0x7F else f"\\x{byte:02x}"

    return '"' + "".join(map(shown, value)) + '"'


def _hex(items: Iterable[syntax.HexItem]) -> str:
    parts = []
    for item in items:
        match item:
            case syntax.HexByte(value=value, mask=mask):
                high = f"{value >> 4:X}" if mask & 0xF0 else "?"
                parts.append(high + (f"{value & 0xF:X}" if mask & 0x0F else "?"))
            case syntax.HexJump(low=low, high=high_b):
                parts.append(f"[{low}]" if low == high_b else f"[{low}-{high_b}]")
            case syntax.HexChoice(options=options):
                parts.append("( " + " | ".join(map(_hex, options)) + " )")
    return " ".join(parts)


def _within(node: syntax.Expression, least: int) -> str:
    """A node where nothing looser than `least` can stand."""
    text, binding = _printed(node)
    return text if binding >= least else f"({text})"


def _printed(node: syntax.Expression) -> tuple[str, int]:
    """The text of a node, and how tightly it binds."""
    match node:
        case syntax.Or(operands=operands):
            return " or ".join(_within(operand, _AND) for operand in operands), _OR
        case syntax.And(operands=operands):
            return " and ".join(_within(operand, _NOT) for operand in operands), _AND
        case syntax.Not(operand=operand):
            return f"not {_within(operand, _NOT)}", _NOT
        case syntax.Matches(text=text, regex=regex, nocase=nocase):
            sign = "imatches" if nocase else "matches"
            return f"{_within(text, _SUM)} {sign} {_body(regex)}", _RELATION
        case (
            syntax.Comparison(operator=sign, left=left, right=right)
            | syntax.TextComparison(operator=sign, left=left, right=right)
        ):
            return f"{_within(left, _SUM)} {sign} {_within(right, _SUM)}", _RELATION
        case syntax.Member(operand=operand, container=container):
            return f"{_within(operand, _SUM)} in {_container(container)}", _RELATION
        case syntax.Match(pattern=name, place=place):
            return name + _place(place), _RELATION
        case syntax.Of(quantity=quantity, patterns=names, place=place):
            of = "(" + ", ".join(names) + ")" if names else "them"
            return f"{quantity} of {of}{_place(place)}", _RELATION
        case syntax.Arithmetic(operator=sign, left=left, right=right):
            binding = _SUM + PRECEDENCE[sign]
            # From left to right among equals.
            return f"{_within(left, binding)} {sign} {_within(right, binding + 1)}", binding
        case syntax.Unary(operator=sign, operand=operand):
            return sign + _within(operand, _UNARY), _UNARY
        case syntax.Number(value=float(value)):
            digits = f"{Decimal(repr(value)):f}"
            return digits if "." in digits else digits + ".0", _ATOM
        case syntax.Number(value=value):
            return str(value), _ATOM
        case syntax.Text(value=value):
            return _quoted(value), _ATOM
        case syntax.Count(pattern=name, place=place):
            return f"count({name}{_place(place)})", _ATOM
        case syntax.Known(operand=operand):
            return f"known({print_condition(operand)})", _ATOM
        case syntax.Term():
            return _term(node), _ATOM


def _term(term: syntax.Term) -> str:
    """A field with its arguments; those of an index on the way stand there."""
    arguments = [_within(argument, _SUM) for argument in term.arguments]

    def index(written: re.Match[str]) -> str:
        count = written[1].count("n")
        taken, arguments[:] = arguments[:count], arguments[count:]
        return "(" + ", ".join(taken) + ")"

    name = _INDEX.sub(index, term.name)
    return f"{name}({', '.join(arguments)})" if arguments else name


def _container(
    container: syntax.Range | syntax.Choice | syntax.Network | syntax.ListReference | syntax.Term,
) -> str:
    match container:
        case syntax.Range():
            return _range(container)
        case syntax.Choice(items=items):
            return "[" + ", ".join(map(_item, items)) + "]"
        case syntax.Network(value=network):
            return str(network)
        case syntax.ListReference(name=name):
            return f"@{name}"
        case syntax.Term():
            return _term(container)


def _item(item: syntax.Expression | syntax.Range | syntax.Network) -> str:
    if isinstance(item, syntax.Range | syntax.Network):
        return _container(item)
    return _within(item, _SUM)


def _place(place: syntax.Expression | syntax.Range | None) -> str:
    if place is None:
        return ""
    if isinstance(place, syntax.Range):
        return f" in {_range(place)}"
    return f" at {_within(place, _SUM)}"


def _range(bounds: syntax.Range) -> str:
    return f"{_within(bounds.low, _SUM)}..{_within(bounds.high, _SUM)}"
