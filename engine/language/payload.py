"""The payloads of tests: `"text" zeros(48) {00 ff} u16(1)` as bytes."""

from __future__ import annotations

import itertools
import random
import re
from typing import Literal

from engine.language import syntax
from engine.language.diagnostics import Diagnostic, Fragment, MistakeError, Span, nearest
from engine.language.parser import parse_payload
from engine.language.values import constant

MAX_PAYLOAD_B = 65535

_TOO_LONG = f"a payload ends at {MAX_PAYLOAD_B} bytes"
_INTEGER = re.compile(r"u(8|16|32|64)(le)?")
_NAMES = ["zeros", "random", "repeat", "u8", "u16", "u32", "u64", "u16le", "u32le", "u64le"]


class Payloads:
    """Reads the payloads of one test.

    `random(n)` gives other bytes at each of its uses in them, and `random(n, k)` the same for
    the same n and k: a transaction id that comes back. All are the same whenever a test runs.
    """

    def __init__(self) -> None:
        self._uses = itertools.count()

    def read(self, fragment: Fragment) -> bytes:
        """The bytes a payload text stands for, at most 65535. Raises MistakeError."""
        return self._joined(parse_payload(fragment), fragment)

    def _joined(self, parts: tuple[syntax.PayloadPart, ...], fragment: Fragment) -> bytes:
        out = bytearray()
        for part in parts:
            match part:
                case syntax.TextBody(value=text):
                    out += text
                case syntax.HexBody(items=items):
                    out += _hex(items, fragment)
                case syntax.Repeat(times=times, parts=inner):
                    count = constant(times)
                    if count is None:
                        message = "`repeat` takes a number and what to repeat"
                        raise _mistake(fragment, "S014", message, part.span)
                    repeated = self._joined(inner, fragment)
                    # Nothing is repeated often either: it may hold more of its kind.
                    if not 0 <= count * max(1, len(repeated)) <= MAX_PAYLOAD_B:
                        raise _mistake(fragment, "S016", _TOO_LONG, part.span)
                    out += repeated * count
                case syntax.Term():
                    out += self._call(part, fragment)
            if len(out) > MAX_PAYLOAD_B:
                raise _mistake(fragment, "S016", _TOO_LONG, part.span)
        return bytes(out)

    def _call(self, call: syntax.Term, fragment: Fragment) -> bytes:
        name, arguments = call.name, [constant(argument) for argument in call.arguments]
        numbers = [argument for argument in arguments if argument is not None]
        if name not in _NAMES:
            hint = nearest(name, _NAMES) if arguments else "a text stands in quotes"
            raise _mistake(fragment, "S012", f"unknown function `{name}`", call.span, hint)
        most, takes = (2, "one number or two") if name == "random" else (1, "one number")
        if len(numbers) < len(arguments) or not 1 <= len(numbers) <= most:
            raise _mistake(fragment, "S014", f"`{name}` takes {takes}", call.span)
        value = numbers[0]
        if integer := _INTEGER.fullmatch(name):
            order: Literal["little", "big"] = "little" if integer[2] else "big"
            try:
                return value.to_bytes(int(integer[1]) // 8, order)
            except OverflowError:
                message = f"{value} does not fit `{name}`"
                raise _mistake(fragment, "S016", message, call.span) from None
        if not 0 <= value <= MAX_PAYLOAD_B:
            raise _mistake(fragment, "S016", f"at most {MAX_PAYLOAD_B} bytes", call.span)
        return bytes(value) if name == "zeros" else self._random(*numbers)

    def _random(self, length: int, number: int | None = None) -> bytes:
        which = f"use {next(self._uses)}" if number is None else f"number {number}"
        return random.Random(f"{length} bytes, {which}").randbytes(length)


def _hex(items: tuple[syntax.HexItem, ...], fragment: Fragment) -> bytes:
    for item in items:
        if not isinstance(item, syntax.HexByte) or item.mask != 0xFF:
            raise _mistake(fragment, "S010", "a payload has no wildcards", item.span)
    return bytes(item.value for item in items if isinstance(item, syntax.HexByte))


def _mistake(
    fragment: Fragment, code: str, message: str, span: Span, hint: str = ""
) -> MistakeError:
    return MistakeError(Diagnostic(code, message, fragment.source, span, hint))
