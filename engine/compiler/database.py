r"""Hyperscan databases in block mode: the only file that touches the binding.

Its traps, each seen: a NUL in an expression cuts it, so expressions are printable ASCII
with `\xHH`; a compile error does not name its expression, so on failure each is compiled
alone; a callback that returns something true ends the scan with an exception; streaming
mode crashes the interpreter; two threads must not share a scratch; SINGLEMATCH and
SOM_LEFTMOST exclude each other.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence

import hyperscan

from engine.compiler.expression import HsExpression

MAX_LOCATED = 1000


class ExpressionError(Exception):
    """Expressions that Hyperscan refuses: `reasons` maps the position of each to its reason."""

    def __init__(self, reasons: dict[int, str]) -> None:
        super().__init__(reasons)
        self.reasons = reasons


_ONCE = hyperscan.HS_FLAG_SINGLEMATCH
_LEFTMOST = hyperscan.HS_FLAG_SOM_LEFTMOST


def _flags(expression: HsExpression, mode: int) -> int:
    nocase = hyperscan.HS_FLAG_CASELESS if expression.nocase else 0
    return int(hyperscan.HS_FLAG_DOTALL | mode | nocase)


def _compile(expressions: Sequence[HsExpression], mode: int) -> hyperscan.Database:
    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    database.compile(
        expressions=[e.regex.encode("ascii") for e in expressions],
        ids=list(range(len(expressions))),
        elements=len(expressions),
        flags=[_flags(e, mode) for e in expressions],
    )
    return database


def _append(expression_id: int, _start: int, _end: int, _flags: int, hits: object) -> None:
    hits.append(expression_id)  # type: ignore[attr-defined]


class Database:
    """Expressions compiled together; a match's id is the expression's position.

    `scan(payload)` gives the ids of the expressions that match anywhere in the payload, each
    once; `size_bytes` is the memory of the compiled database. Pickling keeps the compiled
    form, so another process can build what this one runs.
    """

    scan: Callable[[bytes], list[int]]
    size_bytes: int

    def __init__(self, expressions: Sequence[HsExpression]) -> None:
        """Compile. Raises ExpressionError that names each refused expression."""
        try:
            # Hyperscan refuses to compile nothing.
            self._hold(_compile(expressions, _ONCE) if expressions else None)
        except (hyperscan.HyperscanError, UnicodeEncodeError) as error:
            raise ExpressionError(_reasons(expressions, _ONCE) or {0: str(error)}) from error

    def _hold(self, database: hyperscan.Database | None) -> None:
        self._database = database
        self.size_bytes = 0 if database is None else int(database.size())
        self.scan = _scan_nothing if database is None else _scanner(database)

    def __getstate__(self) -> bytes:
        return b"" if self._database is None else hyperscan.dumpb(self._database)

    def __setstate__(self, compiled: bytes) -> None:
        self._hold(_restored(compiled) if compiled else None)


class DatabaseSearch:
    """Where one expression begins in a payload. Costs a scan, so it is for after the trigger.

    Of matches that end at the same offset, only the one that begins first is found.
    """

    size_bytes: int

    def __init__(self, expression: HsExpression) -> None:
        """Compile. Raises ExpressionError, with position 0."""
        compiled = _compiled_search(expression)
        if isinstance(compiled, str):
            raise ExpressionError({0: compiled})
        self._hold(_restored(compiled))

    def count(self, payload: bytes, low: int, high: int, limit: int) -> int:
        """How many offsets from `low` up to before `high` it begins at, `limit` at most.

        It is looked for from `low` on, as if nothing stood before.
        """
        return len(self.starts(payload, low, high, limit))

    def starts(self, payload: bytes, low: int, high: int, limit: int) -> set[int]:
        """The offsets that `count` counts, relative to `low`."""
        starts: set[int] = set()
        low = max(low, 0)
        width = min(high, len(payload)) - low
        if width <= 0:
            return starts

        def on_match(_id: int, start: int, _end: int, _flags: int, _context: object) -> bool:
            if start < width:
                starts.add(start)
            return len(starts) >= limit

        with contextlib.suppress(hyperscan.ScanTerminated):
            self._database.scan(payload[low:] if low else payload, on_match)
        return starts

    def _hold(self, database: hyperscan.Database) -> None:
        self._database = database
        self.size_bytes = int(database.size())

    def __getstate__(self) -> bytes:
        compiled: bytes = hyperscan.dumpb(self._database)
        return compiled

    def __setstate__(self, compiled: bytes) -> None:
        self._hold(_restored(compiled))


def _restored(compiled: bytes) -> hyperscan.Database:
    database = hyperscan.loadb(compiled, hyperscan.HS_MODE_BLOCK)
    database.scratch = hyperscan.Scratch(database)
    return database


# Planning asks the same again and again for one pattern at a time.
@functools.lru_cache(maxsize=64)
def _compiled_search(expression: HsExpression) -> bytes | str:
    """A database that keeps track of beginnings, as bytes; or why there is none."""
    try:
        compiled: bytes = hyperscan.dumpb(_compile([expression], _LEFTMOST))
    except (hyperscan.HyperscanError, UnicodeEncodeError) as error:
        return _reasons([expression], _LEFTMOST).get(0, str(error))
    return compiled


def tells_beginnings(expression: HsExpression) -> bool:
    """Whether Hyperscan keeps track of where an expression begins: not if it is too large."""
    return isinstance(_compiled_search(expression), bytes)


def locate(expression: HsExpression, payload: bytes) -> list[int] | None:
    """Where in a payload an expression matches: the offsets of its first bytes, in order.

    At most MAX_LOCATED of them. None where Hyperscan cannot tell: it keeps track of beginnings
    only for expressions that are not too large.
    """
    try:
        return sorted(DatabaseSearch(expression).starts(payload, 0, len(payload), MAX_LOCATED))
    except ExpressionError:
        return None


def _scan_nothing(_payload: bytes) -> list[int]:
    return []


def _scanner(database: hyperscan.Database) -> Callable[[bytes], list[int]]:
    # A closure: each attribute looked up on the way would be paid for by every packet.
    scan, on_match = database.scan, _append

    def scan_payload(payload: bytes) -> list[int]:
        hits: list[int] = []
        scan(payload, on_match, 0, hits)
        return hits

    return scan_payload


def _reasons(expressions: Sequence[HsExpression], mode: int) -> dict[int, str]:
    reasons = {}
    for position, expression in enumerate(expressions):
        try:
            _compile([expression], mode)
        except hyperscan.HyperscanError as alone:
            reasons[position] = str(alone.args[0] if alone.args else alone)
        except UnicodeEncodeError:
            reasons[position] = "write bytes outside ASCII as \\xHH"
    return reasons
