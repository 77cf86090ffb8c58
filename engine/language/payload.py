"""The payloads of tests: `"text" zeros(48) {00 ff} u16(1)` as bytes."""

from __future__ import annotations

import random
from collections.abc import Callable

from engine.language import syntax
from engine.language.diagnostics import Diagnostic, Fragment, MistakeError, Span, nearest
from engine.language.parser import parse_payload
from engine.language.values import constant

MAX_PAYLOAD_B = 65535


def _random(length: int) -> bytes:
    # Seeded: a test gives the same answer every time it runs.
    return random.Random(length).randbytes(length)


_FUNCTIONS: dict[str, Callable[[int], bytes]] = {
    "zeros": bytes,
    "random": _random,
    "u8": lambda value: value.to_bytes(1, "big"),
    "u16": lambda value: value.to_bytes(2, "big"),
    "u32": lambda value: value.to_bytes(4, "big"),
    "u64": lambda value: value.to_bytes(8, "big"),
}


def read_payload(fragment: Fragment) -> bytes:
    """The bytes a payload text stands for, at most 65535. Raises MistakeError."""

    def mistake(code: str, message: str, span: Span, hint: str = "") -> MistakeError:
        return MistakeError(Diagnostic(code, message, fragment.source, span, hint))

    out = bytearray()
    for part in parse_payload(fragment):
        match part:
            case syntax.TextBody(value=text):
                out += text
            case syntax.HexBody(items=items):
                for item in items:
                    if not isinstance(item, syntax.HexByte) or item.mask != 0xFF:
                        raise mistake("S010", "a payload has no wildcards", item.span)
                    out.append(item.value)
            case syntax.Term(name=name, arguments=arguments):
                if name not in _FUNCTIONS:
                    hint = nearest(name, _FUNCTIONS) if arguments else "a text stands in quotes"
                    raise mistake("S012", f"unknown function `{name}`", part.span, hint)
                if len(arguments) != 1 or (value := constant(arguments[0])) is None:
                    raise mistake("S014", f"`{name}` takes one number", part.span)
                if not 0 <= value <= MAX_PAYLOAD_B and name in ("zeros", "random"):
                    raise mistake("S016", f"at most {MAX_PAYLOAD_B} bytes", part.span)
                try:
                    out += _FUNCTIONS[name](value)
                except OverflowError:
                    raise mistake("S016", f"{value} does not fit `{name}`", part.span) from None
        if len(out) > MAX_PAYLOAD_B:
            raise mistake("S016", f"a payload ends at {MAX_PAYLOAD_B} bytes", part.span)
    return bytes(out)
