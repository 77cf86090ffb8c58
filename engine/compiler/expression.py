"""From patterns and their placement to expressions that Hyperscan takes."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from engine.language import syntax
from engine.language.places import Place
from engine.language.regex import pinned_bits
from engine.language.values import constant


@dataclass(frozen=True, slots=True)
class HsExpression:
    """A regular expression in Hyperscan's dialect, in printable ASCII; `.` is any byte.

    `bits` estimates what it pins down, in bits of payload: what an innocent packet must
    happen to have for the expression to match.
    """

    regex: str
    nocase: bool = False
    bits: float = field(default=0.0, compare=False)


def placed(pattern: syntax.Pattern, place: Place) -> HsExpression:
    """The expression for a pattern at a constant place, or anywhere.

    A place becomes a prefix from the start of the buffer: `^.{8}` for `at 8`, `^.{0,63}` for
    `in 0..64`.
    """
    body, bits = _body(pattern.body)
    if isinstance(place, syntax.Range):
        low, high = constant(place.low), constant(place.high)
        assert low is not None
        assert high is not None
        body = f"^{_any_bytes(low, high - 1)}(?:{body})"
    elif place is not None:
        offset = constant(place)
        assert offset is not None
        body = f"^{_any_bytes(offset, offset)}(?:{body})"
    return HsExpression(body, pattern.nocase, _bits(bits, nocase=pattern.nocase))


def pinned(byte_sets: Mapping[int, frozenset[int]]) -> HsExpression:
    r"""The expression for bytes at fixed offsets, each one of a set: `^\x41[\x00-\x02].{14}`."""
    parts, bits, position = ["^"], 0.0, 0
    for offset, values in sorted(byte_sets.items()):
        parts.append(_any_bytes(offset - position, offset - position))
        parts.append(byte_class(values))
        bits += 8 - _log2(len(values))
        position = offset + 1
    return HsExpression("".join(parts), bits=bits)


def literal(text: bytes, *, nocase: bool) -> HsExpression:
    """The expression for a text anywhere."""
    return HsExpression(_escaped(text), nocase, _bits(8.0 * len(text), nocase=nocase))


def one_of(before: HsExpression, texts: Collection[bytes]) -> HsExpression:
    """The expression for one of several texts, in any case, anywhere behind another."""
    choice = "|".join(map(_escaped, sorted(texts)))
    bits = before.bits + _bits(8.0 * min(map(len, texts)), nocase=True) - _log2(len(texts))
    return HsExpression(f"{before.regex}.*(?:{choice})", nocase=True, bits=bits)


def _bits(bits: float, *, nocase: bool) -> float:
    return bits * (0.8 if nocase else 1.0)


def _escaped(text: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in text)


def _log2(count: int) -> float:
    return (count - 1).bit_length() if count else 0.0


def _any_bytes(low: int, high: int) -> str:
    if high == 0:
        return ""
    return f".{{{low}}}" if low == high else f".{{{low},{high}}}"


def byte_class(values: frozenset[int]) -> str:
    r"""One byte out of `values`, as runs: `[\x00-\x02\x41]`."""
    if len(values) == 256:
        return "."
    runs: list[list[int]] = []
    for value in sorted(values):
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    if len(values) == 1:
        return f"\\x{runs[0][0]:02x}"
    text = "".join(f"\\x{a:02x}" if a == b else f"\\x{a:02x}-\\x{b:02x}" for a, b in runs)
    return f"[{text}]"


def _body(body: syntax.TextBody | syntax.HexBody | syntax.RegexBody) -> tuple[str, float]:
    match body:
        case syntax.TextBody(value=value):
            return _escaped(value), 8.0 * len(value)
        case syntax.HexBody(items=items):
            return _hex(items)
        case syntax.RegexBody(expression=expression):
            return expression, pinned_bits(expression)


def _hex(items: tuple[syntax.HexItem, ...]) -> tuple[str, float]:
    parts, bits = [], 0.0
    for item in items:
        match item:
            case syntax.HexByte(value=value, mask=mask):
                parts.append(_hex_byte(value, mask))
                bits += mask.bit_count()
            case syntax.HexJump(low=low, high=high):
                parts.append(_any_bytes(low, high))
            case syntax.HexChoice(options=options):
                built = [_hex(option) for option in options]
                parts.append("(?:" + "|".join(text for text, _ in built) + ")")
                bits += max(0.0, min(b for _, b in built) - _log2(len(built)))
    return "".join(parts), bits


@functools.cache
def _hex_byte(value: int, mask: int) -> str:
    return byte_class(frozenset(byte for byte in range(256) if byte & mask == value))
