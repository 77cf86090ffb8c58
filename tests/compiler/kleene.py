"""The meaning of conditions, told a second time: slowly, plainly, without Hyperscan.

A condition is True, False or None (unknown), as in Kleene's strong logic. A value is None where
a read runs past the end, a view is missing, a division is by zero or a shift is absurd.
"""

from __future__ import annotations

import ipaddress
import math
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from engine.fields import Context
from engine.fields.bencode import parse
from engine.fields.utp import parse_header
from engine.language import syntax

Truth = bool | None

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_COMPUTE: dict[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "&": operator.and_,
    "|": operator.or_,
    "^": operator.xor,
}


def truth(
    condition: syntax.Expression, patterns: Sequence[syntax.Pattern], context: Context
) -> Truth:
    def of(inner: syntax.Expression) -> Truth:
        return truth(inner, patterns, context)

    def worth(inner: syntax.Expression) -> Any:
        return value(inner, context, patterns)

    match condition:
        case syntax.Not(operand=operand):
            inner = of(operand)
            return None if inner is None else not inner
        case syntax.And(operands=operands):
            return _all(map(of, operands))
        case syntax.Or(operands=operands):
            return _any(map(of, operands))
        case syntax.Comparison(operator=sign, left=left, right=right):
            return _compare(sign, worth(left), worth(right))
        case syntax.TextComparison(operator=sign, left=left, right=right):
            texts = worth(left), worth(right)
            return None if None in texts else _compare_texts(sign, *texts)
        case syntax.Matches(text=text, regex=regex, nocase=nocase):
            found = worth(text)
            flags = re.DOTALL | (re.IGNORECASE if nocase else 0)
            expression = regex.expression.encode()
            return None if found is None else re.search(expression, found, flags) is not None
        case syntax.Known(operand=operand):
            return worth(operand) is not None
        case syntax.Member(operand=operand, container=syntax.Choice(items=items)):
            return _any([_is_in(worth(operand), item, worth) for item in items])
        case syntax.Member(operand=operand, container=container):
            return _is_in(worth(operand), container, worth)
        case syntax.Match(pattern=name, place=place):
            bounds = _bounds(place, worth)
            pattern = next(p for p in patterns if p.name == name)
            return None if bounds is None else bool(_starts(pattern, bounds, context.payload))
        case syntax.Of(quantity=quantity, patterns=names, place=place):
            bounds = _bounds(place, worth)
            if bounds is None:
                return None
            chosen = [p for p in patterns if not names or any(_named(p.name, n) for n in names)]
            count = sum(bool(_starts(p, bounds, context.payload)) for p in chosen)
            return count >= {"any": 1, "all": len(chosen)}.get(str(quantity), quantity)  # type: ignore[operator]
    raise AssertionError(condition)


def _is_in(found: Any, item: syntax.Node, worth: Callable[[Any], Any]) -> Truth:
    match item:
        case syntax.Range(low=low, high=high):
            return _all([_compare(">=", found, worth(low)), _compare("<", found, worth(high))])
        case syntax.Network(value=network):
            return None if found is None else found in network
        case _:
            return _compare("==", found, worth(item))


def _all(truths: Iterable[Truth]) -> Truth:
    found = list(truths)
    return False if False in found else None if None in found else True


def _any(truths: Iterable[Truth]) -> Truth:
    found = list(truths)
    return True if True in found else None if None in found else False


def _compare(sign: str, left: Any, right: Any) -> Truth:
    return None if left is None or right is None else _COMPARE[sign](left, right)


def _compare_texts(sign: str, left: bytes, right: bytes) -> bool:
    if sign.startswith("i"):
        left, right, sign = left.lower(), right.lower(), sign[1:]
    match sign:
        case "contains":
            return right in left
        case "startswith":
            return left[: len(right)] == right
        case "endswith":
            return left[max(0, len(left) - len(right)) :] == right
        case _:
            return left == right


def _named(name: str, wanted: str) -> bool:
    return name == wanted or (wanted.endswith("*") and name.startswith(wanted[:-1]))


def value(
    expression: syntax.Expression, context: Context, patterns: Sequence[syntax.Pattern] = ()
) -> Any:
    def of(inner: syntax.Expression) -> Any:
        return value(inner, context, patterns)

    match expression:
        case syntax.Number(value=constant) | syntax.Text(value=constant):
            return constant
        case syntax.Unary(operator=sign, operand=operand):
            inner = of(operand)
            return None if inner is None else -inner if sign == "-" else ~inner
        case syntax.Arithmetic(operator=sign, left=left, right=right):
            a, b = of(left), of(right)
            return None if a is None or b is None else _compute(sign, a, b)
        case syntax.Term(name=name, arguments=arguments):
            known = [of(argument) for argument in arguments]
            return None if None in known else _read(name, known, context)
        case syntax.Count(pattern=name, place=place):
            bounds = _bounds(place, of)
            pattern = next(p for p in patterns if p.name == name)
            return None if bounds is None else len(_starts(pattern, bounds, context.payload))
    raise AssertionError(expression)


def _compute(sign: str, a: int, b: int) -> int | None:
    match sign:
        case "/" | "%":
            return None if b == 0 else a // b if sign == "/" else a % b
        case "<<" | ">>":
            return None if not 0 <= b < 64 else a << b if sign == "<<" else a >> b
        case _:
            return _COMPUTE[sign](a, b)


def _read(name: str, arguments: Sequence[Any], context: Context) -> Any:
    payload = context.payload
    if width := re.fullmatch(r"u(8|16|32|64)(le)?", name):
        data = _stretch(payload, arguments[0], int(width[1]) // 8)
        return data and int.from_bytes(data, "little" if width[2] else "big")
    match name:
        case "size":
            return len(payload)
        case "length":
            return len(arguments[0])
        case "entropy":
            data = _stretch(payload, *arguments)
            shares = [data.count(byte) / len(data) for byte in set(data)] if data else []
            return -sum(p * math.log2(p) for p in shares) if data else None
        case "printable":
            data = _stretch(payload, *arguments)
            return data and len(re.findall(rb"[\t\r\n -~]", data)) / len(data)
        case "text":
            return _stretch(payload, *arguments)
        case "src.port":
            return context.source_port
        case "dst.port":
            return context.destination_port
        case "src.ip":
            return ipaddress.ip_address(context.source)
        case "bencode.y" | "bencode.q":
            dictionary = parse(payload)
            return dictionary and dictionary.text(name[-1:].encode())
        case "utp.seq_nr" | "utp.extensions_end":
            header = parse_header(payload)
            return header and getattr(header, name.split(".")[1])
    raise AssertionError(name)


def _stretch(payload: bytes, offset: int, length: int) -> bytes | None:
    inside = offset >= 0 and length >= 1 and offset + length <= len(payload)
    return payload[offset : offset + length] if inside else None


def _bounds(
    place: syntax.Expression | syntax.Range | None, worth: Callable[[syntax.Expression], Any]
) -> tuple[int, int] | None:
    """Where a pattern may begin, from and before; None where that is unknown."""
    if place is None:
        return 0, 1 << 64
    if isinstance(place, syntax.Range):
        low, high = worth(place.low), worth(place.high)
    else:
        low = high = worth(place)
        high = None if high is None else high + 1
    return None if low is None or high is None else (low, high)


def _starts(pattern: syntax.Pattern, bounds: tuple[int, int], payload: bytes) -> set[int]:
    """Where it begins within the bounds; of matches with one end only the first counts."""
    match pattern.body:
        case syntax.TextBody(value=text):
            expression = re.escape(text)
        case syntax.HexBody(items=items):
            expression = _hex(items)
        case syntax.RegexBody(expression=written):
            expression = written.encode()
    compiled = re.compile(expression, re.DOTALL | (re.IGNORECASE if pattern.nocase else 0))
    first_of: dict[int, int] = {}
    for start in range(max(0, bounds[0]), len(payload)):
        for end in range(start + 1, len(payload) + 1):
            if compiled.fullmatch(payload[start:end]):
                first_of.setdefault(end, start)
    return {start for start in first_of.values() if start < bounds[1]}


def _hex(items: Sequence[syntax.HexItem]) -> bytes:
    out = b""
    for item in items:
        match item:
            case syntax.HexByte(value=wanted, mask=mask):
                fitting = [b"\\x%02x" % byte for byte in range(256) if byte & mask == wanted]
                out += b"[" + b"".join(fitting) + b"]"
            case syntax.HexJump(low=low, high=high):
                out += b".{%d,%d}" % (low, high)
            case syntax.HexChoice(options=options):
                out += b"(?:" + b"|".join(map(_hex, options)) + b")"
    return out
