"""Pieces of C: tests, and numbers whose bounds are known.

The language's numbers do not overflow, C's do: a number is taken only where each step to it fits
into 64 bits. The macros are those of bpf/blocker.bpf.c.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.language import syntax

TRUE, FALSE = "1", "0"


class UndecidableError(Exception):
    """What C cannot decide; carries why."""


class UnknownError(Exception):
    """A value that is never known: an offset below 0."""


@dataclass(frozen=True, slots=True)
class Value:
    """A number: its C, its bounds, how many bytes of the payload it needs."""

    code: str
    low: int
    high: int
    reach: int = 0


def negation(test: str) -> str:
    """The opposite of a test."""
    return {TRUE: FALSE, FALSE: TRUE}.get(test, f"!{test}")


def all_of(tests: Sequence[str]) -> str:
    """All of some tests; none are true."""
    if FALSE in tests:
        return FALSE
    wanted = [test for test in tests if test != TRUE]
    return f"({' && '.join(wanted)})" if wanted else TRUE


def any_of(tests: Sequence[str]) -> str:
    """One of some tests; none are false."""
    if TRUE in tests:
        return TRUE
    possible = [test for test in tests if test != FALSE]
    return f"({' || '.join(possible)})" if possible else FALSE


def where_known(value: Value, test: str) -> str:
    """A test of a value, false where the payload has not all its bytes."""
    return all_of([f"HAS({value.reach})", test]) if value.reach else test


def compared(sign: syntax.ComparisonOperator, a: Value, b: Value) -> str:
    """A test of two values: what their bounds decide is decided here. Raises UndecidableError."""
    needed = Value("", 0, 0, max(a.reach, b.reach))
    if sign in (">", ">="):
        sign, a, b = ("<" if sign == ">" else "<="), b, a
    if sign in ("==", "!=") and (a.high < b.low or b.high < a.low):
        return where_known(needed, TRUE) if sign == "!=" else FALSE
    if (sign == "<" and a.high < b.low) or (sign == "<=" and a.high <= b.low):
        return where_known(needed, TRUE)
    if (sign == "<" and a.low >= b.high) or (sign == "<=" and a.low > b.high):
        return FALSE
    kind = _type(a.low, a.high, b.low, b.high)
    return where_known(needed, f"({kind})({a.code}) {sign} ({kind})({b.code})")


def computed(sign: syntax.ArithmeticOperator, a: Value, b: Value) -> Value:
    """What comes of two values. Raises UndecidableError, UnknownError."""
    low, high = _bounds(sign, a, b)
    kind = _type(a.low, a.high, b.low, b.high, low, high)
    code = f"(({kind})({a.code}) {sign} ({kind})({b.code}))"
    return Value(code, low, high, max(a.reach, b.reach))


def _bounds(sign: syntax.ArithmeticOperator, a: Value, b: Value) -> tuple[int, int]:
    match sign:
        case "+":
            return a.low + b.low, a.high + b.high
        case "-":
            return a.low - b.high, a.high - b.low
        case "*":
            corners = [x * y for x in (a.low, a.high) for y in (b.low, b.high)]
            return min(corners), max(corners)
        case _ if a.low < 0 or b.low < 0:
            raise UndecidableError(f"`{sign}` of what may be negative")
        case "&":
            return 0, min(a.high, b.high)
        case "|" | "^":
            return 0, (1 << max(a.high, b.high).bit_length()) - 1
        case _ if b.low != b.high:
            raise UndecidableError(f"`{sign}` by what is not constant")
        case "<<" | ">>" if b.low > 63:
            raise UnknownError
        case "<<":
            return a.low << b.low, a.high << b.low
        case ">>":
            return a.low >> b.low, a.high >> b.low
        case _ if not b.low:
            raise UnknownError
        case "/":
            return a.low // b.low, a.high // b.low
        case "%":
            return 0, min(a.high, b.low - 1)


def _type(*bounds: int) -> str:
    """The C type that holds all of these."""
    if min(bounds) >= 0 and max(bounds) < 1 << 64:
        return "u64"
    if min(bounds) > -(1 << 63) and max(bounds) < 1 << 63:
        return "s64"
    raise UndecidableError("numbers of more than 64 bits")
