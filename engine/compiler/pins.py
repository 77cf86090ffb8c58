"""Bytes that comparisons pin at fixed offsets.

`u16(16) == 1`, `u8(0) & 0xf0 == 0x40`, `text(4, 3) == "GET"`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from engine.language import syntax
from engine.language.values import constant

# A pattern that begins further in than this is no cheaper than the condition itself.
MAX_PINNED_OFFSET = 1500

_WIDTHS = {"u8": 1, "u16": 2, "u32": 4, "u64": 8, "u16le": 2, "u32le": 4, "u64le": 8}

# For each offset that a condition constrains, the values its byte can have.
ByteSets = Mapping[int, frozenset[int]]


def in_all(each_sets: Iterable[ByteSets]) -> ByteSets:
    """What several conditions leave when all of them are true."""
    left: dict[int, frozenset[int]] = {}
    for byte_sets in each_sets:
        for offset, values in byte_sets.items():
            left[offset] = left.get(offset, values) & values
    return left


def in_any(each_sets: Sequence[ByteSets]) -> ByteSets:
    """What several conditions leave when one of them is true."""
    shared = set.intersection(*map(set, each_sets))
    return {o: frozenset().union(*(sets[o] for sets in each_sets)) for o in shared}


def pinned_bytes(leaf: syntax.Expression) -> ByteSets:
    """What one comparison or membership pins."""
    match leaf:
        case syntax.Comparison(operator="==", left=left, right=right):
            for side, other in ((left, right), (right, left)):
                value = _constant(other)
                if isinstance(side, syntax.Term) and value is not None:
                    return _exact(side, value) or _single_byte(leaf)
            return _single_byte(leaf)
        case syntax.Comparison():
            return _single_byte(leaf)
        case syntax.Member(operand=syntax.Term() as term, container=syntax.Choice(constants=items)):
            return _one_of(term, items)
        case _:
            return {}


def _constant(expression: syntax.Expression) -> int | bytes | None:
    return expression.value if isinstance(expression, syntax.Text) else constant(expression)


def _exact(term: syntax.Term, value: int | bytes) -> dict[int, frozenset[int]]:
    """The bytes of `uN(offset) == value`; a value that never fits pins an impossible byte."""
    if isinstance(value, bytes):
        read = _reads_text(term)
        if read is None:
            return {}
        offset, width = read
        data = value
    else:
        integer = _reads(term)
        if integer is None:
            return {}
        offset, width, order = integer
        fits = 0 <= value < 1 << (8 * width)
        data = value.to_bytes(width, "little" if order else "big") if fits else b""
    if len(data) != width:
        return {offset: frozenset()}
    return {offset + i: frozenset({byte}) for i, byte in enumerate(data)}


def _reads_text(term: syntax.Term) -> tuple[int, int] | None:
    """(offset, length) of `text` at a fixed place."""
    if term.name != "text":
        return None
    offset, length = map(constant, term.arguments)
    if offset is None or length is None or not 0 <= offset <= MAX_PINNED_OFFSET or length < 1:
        return None
    return offset, length


def _one_of(term: syntax.Term, items: Sequence[syntax.Expression]) -> ByteSets:
    merged: dict[int, frozenset[int]] = {}
    for item in items:
        value = _constant(item)
        exact = {} if value is None else _exact(term, value)
        if not exact:
            return {}
        for offset, values in exact.items():
            merged[offset] = merged.get(offset, frozenset()) | values
    return merged


def _reads(term: syntax.Expression) -> tuple[int, int, bool] | None:
    """(offset, width, little-endian) of an integer read at a fixed offset."""
    if not isinstance(term, syntax.Term) or term.name not in _WIDTHS:
        return None
    offset = constant(term.arguments[0])
    if offset is None or not 0 <= offset <= MAX_PINNED_OFFSET:
        return None
    return offset, _WIDTHS[term.name], term.name.endswith("le")


def _single_byte(comparison: syntax.Comparison) -> dict[int, frozenset[int]]:
    """The values of the one byte a comparison is about, by trying all 256.

    Covers masks, shifts and orders: `u8(0) & 0xf0 == 0x40`, `u8(1) <= 2`.
    """
    offset = _only_byte(comparison.left, comparison.right)
    if offset is None:
        return {}
    values = set()
    for byte in range(256):
        left, right = _evaluate(comparison.left, byte), _evaluate(comparison.right, byte)
        if left is None or right is None:
            continue
        if holds(comparison.operator, left, right):
            values.add(byte)
    return {} if len(values) == 256 else {offset: frozenset(values)}


def _only_byte(*expressions: syntax.Expression) -> int | None:
    """The offset of the only `u8` read among expressions that read nothing else."""
    offsets: set[int] = set()
    pending = list(expressions)
    while pending:
        match pending.pop():
            case syntax.Number(value=int()):
                pass
            case syntax.Unary(operand=operand):
                pending.append(operand)
            case syntax.Arithmetic(left=left, right=right):
                pending += (left, right)
            case syntax.Term(name="u8") as term if (read := _reads(term)) is not None:
                offsets.add(read[0])
            case _:
                return None
    return offsets.pop() if len(offsets) == 1 else None


def _evaluate(expression: syntax.Expression, byte: int) -> int | None:
    return constant(_substitute(expression, byte))


def _substitute(expression: syntax.Expression, byte: int) -> syntax.Expression:
    match expression:
        case syntax.Term(span=span):
            return syntax.Number(value=byte, span=span)
        case syntax.Unary(operator=operator, operand=operand, span=span):
            return syntax.Unary(operator=operator, operand=_substitute(operand, byte), span=span)
        case syntax.Arithmetic(operator=op, left=left, right=right, span=span):
            return syntax.Arithmetic(
                operator=op,
                left=_substitute(left, byte),
                right=_substitute(right, byte),
                span=span,
            )
        case _:
            return expression


def holds(operator: syntax.ComparisonOperator, left: int, right: int) -> bool:
    """Whether two integers compare so."""
    match operator:
        case "==":
            return left == right
        case "!=":
            return left != right
        case "<":
            return left < right
        case "<=":
            return left <= right
        case ">":
            return left > right
        case ">=":
            return left >= right
