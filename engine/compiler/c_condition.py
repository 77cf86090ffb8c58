"""A normalised condition as a C expression over bytes at fixed offsets.

It is written in the macros of bpf/blocker.bpf.c: HAS(n) is true when the payload has n bytes or
more, U8 to U64LE read it. Of an author's text nothing but numbers gets into it. What C cannot
decide counts as false: `engine.compiler.driver` says why that is right.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from engine.compiler.c_expression import (
    FALSE,
    TRUE,
    UndecidableError,
    UnknownError,
    Value,
    all_of,
    any_of,
    compared,
    computed,
    negation,
    where_known,
)
from engine.language import syntax
from engine.language.parser import walk
from engine.language.places import Place, matched_names
from engine.language.values import constant

# Bytes further in than this are left to the queue, which keeps as many of a stream.
MAX_REACH_B = 2048
# Alternatives of a pattern at its places; each is a comparison of its own.
MAX_ALTERNATIVES = 16
MAX_TERMS = 128

_READS = {"u8": 1, "u16": 2, "u32": 4, "u64": 8, "u16le": 2, "u32le": 4, "u64le": 8}
_PORT_MAX = 0xFFFF
_VARIABLES = {
    "size": ("size", 0xFFFF_FFFF),
    "src.port": ("source_port", _PORT_MAX),
    "dst.port": ("destination_port", _PORT_MAX),
}
_LETTERS = frozenset(string.ascii_letters.encode())
_UPPER = 0xDF

# One byte of a pattern: its value under a mask.
_Byte = tuple[int, int]


def condition_in_c(
    condition: syntax.Expression, patterns: Sequence[syntax.Pattern]
) -> tuple[str | None, tuple[str, ...]]:
    """C that is true only where the condition is, and what of the condition it leaves out.

    None where nothing is left that could be true.
    """
    translator = _Translator(patterns)
    code = translator.truth(condition)
    return (None if code == FALSE else code), tuple(translator.reasons)


class _Translator:
    def __init__(self, patterns: Sequence[syntax.Pattern]) -> None:
        self.reasons: dict[str, None] = {}
        self._patterns = {p.name: p for p in patterns}
        self._terms = 0

    def truth(self, condition: syntax.Expression) -> str:
        match condition:
            case syntax.And(operands=operands):
                return all_of([self.truth(operand) for operand in operands])
            case syntax.Or(operands=operands):
                return any_of([self.truth(operand) for operand in operands])
            case _:
                return self._attempt(lambda: self._leaf(condition))

    def _attempt(self, test: Callable[[], str]) -> str:
        """A test, or false, and why, where C cannot decide it."""
        try:
            return test()
        except UnknownError:
            return FALSE
        except UndecidableError as reason:
            self.reasons[str(reason)] = None
            return FALSE

    def _leaf(self, leaf: syntax.Expression) -> str:
        negated = isinstance(leaf, syntax.Not)
        match leaf.operand if isinstance(leaf, syntax.Not) else leaf:
            case syntax.Match(pattern=name, place=place):
                return self._of([name], 1, place, negated=negated)
            case syntax.Of(quantity=quantity, patterns=names, place=place):
                each = matched_names(names, list(self._patterns.values()))
                wanted = {"any": 1, "all": len(each)}.get(str(quantity), quantity)
                return self._of(each, int(wanted), place, negated=negated)
            case (
                syntax.Comparison(
                    operator="==" | "!=" as sign,
                    left=syntax.Term(name="text") as term,
                    right=syntax.Text() as text,
                )
                | syntax.Comparison(
                    operator="==" | "!=" as sign,
                    left=syntax.Text() as text,
                    right=syntax.Term(name="text") as term,
                )
            ):
                return self._texts(term, [text], negated=sign == "!=")
            case syntax.Member(
                operand=syntax.Term(name="text") as term,
                container=syntax.Choice(constants=texts),
            ):
                return self._texts(term, texts, negated=negated)
            case syntax.Comparison(operator=sign, left=left, right=right):
                return compared(sign, self._value(left), self._value(right))
            case syntax.Member(operand=operand, container=syntax.Choice(constants=items)):
                value = self._value(operand)
                signs = [compared("==", value, self._value(item)) for item in items]
                found = any_of(signs)
                return where_known(value, negation(found)) if negated else found
            case syntax.Known(operand=operand):
                try:
                    known = where_known(self._value(operand), TRUE)
                except UnknownError:
                    known = FALSE
                return negation(known) if negated else known
            case other:
                raise UndecidableError(_words(other))

    # --- patterns

    def _of(self, names: Sequence[str], wanted: int, place: Place, *, negated: bool) -> str:
        """At least `wanted` of the patterns match at a place, or fewer do."""
        if negated:  # of m, fewer than n match where m - n + 1 are missing
            wanted = len(names) - wanted + 1
        each = [self._attempt(partial(self._pattern, name, place, negated)) for name in names]
        if wanted == len(each):
            return all_of(each)
        if wanted == 1:
            return any_of(each)
        return f"({' + '.join(each)} >= {wanted})"

    def _pattern(self, name: str, place: Place, negated: bool) -> str:
        """It matches at a place, or does not."""
        pattern = self._patterns[name]
        alternatives = [
            (offset, sequence)
            for offset in _offsets(name, place)
            for sequence in _sequences(pattern)
        ]
        if len(alternatives) > MAX_ALTERNATIVES:
            raise UndecidableError(f"{name} has too many forms")
        tests = []
        for offset, sequence in alternatives:
            end = offset + len(sequence)
            if end > MAX_REACH_B:
                raise UndecidableError(f"{name} beyond byte {MAX_REACH_B}")
            tests.append(all_of([f"HAS({end})", *self._bytes_equal(offset, sequence)]))
        found = any_of(tests)
        return negation(found) if negated else found

    def _bytes_equal(self, offset: int, sequence: Sequence[_Byte]) -> Iterator[str]:
        """Comparisons of as many bytes at once as there are left."""
        position = 0
        while position < len(sequence):
            if not sequence[position][1]:
                position += 1
                continue
            width = next(w for w in (8, 4, 2, 1) if position + w <= len(sequence))
            part = sequence[position : position + width]
            value = int.from_bytes(bytes(v & m for v, m in part), "big")
            mask = int.from_bytes(bytes(m for _, m in part), "big")
            read = f"U{8 * width}({offset + position})"
            if mask != (1 << 8 * width) - 1:
                read = f"({read} & {mask:#x}ull)"
            self._count_term()
            yield f"{read} == {value:#x}ull"
            position += width

    def _texts(
        self, term: syntax.Term, texts: Sequence[syntax.Expression], *, negated: bool
    ) -> str:
        """`text(offset, length)` is one of these, or is known and none of them."""
        offset, length = map(constant, term.arguments)
        if offset is None or length is None:
            raise UndecidableError("text at a computed offset")
        if offset < 0 or length < 1:
            raise UnknownError
        if offset + length > MAX_REACH_B:
            raise UndecidableError(f"text beyond byte {MAX_REACH_B}")
        tests = [
            all_of(list(self._bytes_equal(offset, [(byte, 0xFF) for byte in text.value])))
            for text in texts
            if isinstance(text, syntax.Text) and len(text.value) == length
        ]
        found = any_of(tests)
        return all_of([f"HAS({offset + length})", negation(found) if negated else found])

    # --- numbers

    def _value(self, expression: syntax.Expression) -> Value:
        number = constant(expression)
        if number is not None:
            return Value(f"{number}ll" if number < 0 else f"{number}ull", number, number)
        match expression:
            case syntax.Term(name=name, arguments=(where,)) if name in _READS:
                return self._read(name, where)
            case syntax.Term(name=name) if name in _VARIABLES:
                code, high = _VARIABLES[name]
                return Value(f"(u64){code}", 0, high)
            case syntax.Arithmetic(operator=sign, left=left, right=right):
                return computed(sign, self._value(left), self._value(right))
            case syntax.Unary(operator="-", operand=operand):
                return computed("-", Value("0ull", 0, 0), self._value(operand))
            case _:
                raise UndecidableError(_words(expression))

    def _read(self, name: str, where: syntax.Expression) -> Value:
        offset, width = constant(where), _READS[name]
        if offset is None:
            raise UndecidableError(f"{name} at a computed offset")
        if offset < 0:
            raise UnknownError
        if offset + width > MAX_REACH_B:
            raise UndecidableError(f"{name} beyond byte {MAX_REACH_B}")
        self._count_term()
        return Value(f"{name.upper()}({offset})", 0, (1 << 8 * width) - 1, offset + width)

    def _count_term(self) -> None:
        self._terms += 1
        if self._terms > MAX_TERMS:
            raise UndecidableError("too many comparisons")


def _words(expression: syntax.Expression) -> str:
    """What an expression asks for that the driver does not know, in the author's words."""
    for node in walk(expression):
        if isinstance(node, syntax.Term) and node.name not in {*_READS, *_VARIABLES, "text"}:
            return node.name
        if isinstance(node, syntax.Count):
            return f"count({node.pattern})"
    return "a computed value"


def _offsets(name: str, place: Place) -> range:
    """Where a pattern may begin."""
    if place is None:
        raise UndecidableError(f"{name} anywhere")
    if isinstance(place, syntax.Range):
        low, high = constant(place.low), constant(place.high)
        if low is not None and high is not None:
            if high - low > MAX_ALTERNATIVES:
                raise UndecidableError(f"{name} in {low}..{high}")
            return range(max(low, 0), high)
    else:
        offset = constant(place)
        if offset is not None:
            return range(offset, offset + (offset >= 0))
    raise UndecidableError(f"{name} at a computed place")


def _sequences(pattern: syntax.Pattern) -> list[list[_Byte]]:
    """The byte sequences that a pattern stands for."""
    match pattern.body:
        case syntax.TextBody(value=value):
            sequences = [[(byte, 0xFF) for byte in value]]
        case syntax.HexBody(items=items):
            sequences = _hex(pattern.name, items)
        case _:
            raise UndecidableError(f"{pattern.name} is a regular expression")
    if not pattern.nocase:
        return sequences
    return [[_nocase(pattern.name, byte) for byte in sequence] for sequence in sequences]


def _nocase(name: str, byte: _Byte) -> _Byte:
    """The byte in upper and lower case alike, which differ by one bit."""
    value, mask = byte
    if not any(b & mask == value for b in _LETTERS):
        return byte
    if mask == 0xFF:
        return value & _UPPER, _UPPER
    if mask:
        raise UndecidableError(f"{name} is half a letter")
    return byte


def _hex(name: str, items: Sequence[syntax.HexItem]) -> list[list[_Byte]]:
    sequences: list[list[_Byte]] = [[]]
    for item in items:
        match item:
            case syntax.HexByte(value=value, mask=mask):
                forms = [[(value, mask)]]
            case syntax.HexJump(low=low, high=high):
                forms = [[(0, 0)] * length for length in range(low, high + 1)]
            case syntax.HexChoice(options=options):
                forms = [form for option in options for form in _hex(name, option)]
        if len(sequences) * len(forms) > MAX_ALTERNATIVES:
            raise UndecidableError(f"{name} has too many forms")
        sequences = [before + form for before in sequences for form in forms]
    return sequences
