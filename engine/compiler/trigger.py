r"""The prefilter: what must have matched for a condition to be true.

A trigger is a set of expressions of which at least one matches whenever the condition is
true. It is found from the patterns; from comparisons that pin bytes at fixed offsets:
`u8(0) == 0x41 and u16(16) == 1` implies `^\x41.{15}\x00\x01`; from texts that must stand in
the payload for a field to equal or hold them; and from the fields, which are known only in
payloads of their protocol.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from engine.compiler.expression import HsExpression, literal, one_of, pinned
from engine.compiler.search import looked_for
from engine.fields import VOCABULARY
from engine.language import syntax
from engine.language.checker import constant, matched_names
from engine.language.lists import Lists, TextList
from engine.language.parser import walk
from engine.language.vocabulary import Type

# A pattern that begins further in than this is no cheaper than the condition itself.
MAX_PINNED_OFFSET = 1500

# Of a list with more bytes in it than this the entries are not looked for before the condition
# is asked: Hyperscan takes expressions of 16,000 characters.
MAX_LISTED_B = 3072

_WIDTHS = {"u8": 1, "u16": 2, "u32": 4, "u64": 8, "u16le": 2, "u32le": 4, "u64le": 8}


@dataclass(frozen=True, slots=True)
class Trigger:
    """Expressions of which one must match; none, where the condition can never be true."""

    expressions: frozenset[HsExpression]

    @property
    def bits(self) -> float:
        """How much the weakest expression pins down."""
        return min((e.bits for e in self.expressions), default=math.inf)


def find_trigger(
    condition: syntax.Expression, patterns: Sequence[syntax.Pattern], lists: Lists | None = None
) -> Trigger | None:
    """The strongest trigger of a normalised condition, None where nothing need match.

    `lists` are what it asks for by `@name`.
    """
    by_name = {p.name: p for p in patterns}
    return _find(condition, by_name, lists or Lists({}))


def _find(
    condition: syntax.Expression, patterns: Mapping[str, syntax.Pattern], lists: Lists
) -> Trigger | None:
    match condition:
        case syntax.And(operands=operands):
            byte_sets: dict[int, frozenset[int]] = {}
            for operand in operands:
                for offset, values in _byte_sets(operand).items():
                    byte_sets[offset] = byte_sets.get(offset, values) & values
            return _strongest(
                [*(_find(operand, patterns, lists) for operand in operands), _pinning(byte_sets)]
            )
        case syntax.Or(operands=operands):
            return _any_of([_find(operand, patterns, lists) for operand in operands])
        case syntax.Match(pattern=name, place=place):
            match_needed = Trigger(frozenset({looked_for(patterns[name], place)}))
            return _strongest([match_needed, *_views(condition)])
        case syntax.Of(quantity=quantity, patterns=names, place=place):
            matched = [patterns[n] for n in matched_names(names, list(patterns.values()))]
            each = [Trigger(frozenset({looked_for(p, place)})) for p in matched]
            # With n of m wanted, one of any m - n + 1 must be among the matching ones.
            each.sort(key=lambda t: -t.bits)
            needed = {"any": 1, "all": len(each)}.get(str(quantity), quantity)
            return _strongest([_any_of(each[: len(each) - int(needed) + 1]), *_views(condition)])
        case _:
            return _strongest(
                [
                    _pinning(_byte_sets(condition)),
                    _counted(condition, patterns),
                    _text(condition, lists),
                    *_views(condition),
                ]
            )


def _strongest(found: Iterable[Trigger | None]) -> Trigger | None:
    candidates = [trigger for trigger in found if trigger is not None]
    # Among equals the fewest expressions.
    return max(candidates, key=lambda t: (t.bits, -len(t.expressions)), default=None)


def _views(leaf: syntax.Expression) -> Iterator[Trigger]:
    """What each field that a leaf reads implies: the leaf is unknown where one of them is."""
    for node in walk(leaf):
        if isinstance(node, syntax.Term) and (implied := VOCABULARY[node.name].implied):
            yield Trigger(frozenset({HsExpression(implied.regex, bits=implied.bits)}))


def _counted(leaf: syntax.Expression, patterns: Mapping[str, syntax.Pattern]) -> Trigger | None:
    """The pattern of a count that must not be 0."""
    match leaf:
        case syntax.Comparison(operator=sign, left=syntax.Count() as count, right=other):
            number = constant(other)
            needed = number is not None and not _holds(sign, 0, number)
        case syntax.Comparison(operator=sign, left=other, right=syntax.Count() as count):
            number = constant(other)
            needed = number is not None and not _holds(sign, number, 0)
        case syntax.Member(operand=syntax.Count() as count, container=syntax.Choice(items=items)):
            needed = all(constant(item) for item in items)
        case _:
            return None
    return (
        Trigger(frozenset({looked_for(patterns[count.pattern], count.place)})) if needed else None
    )


def _text(leaf: syntax.Expression, lists: Lists) -> Trigger | None:
    """The texts of which one must stand in the payload for a field to equal or hold it."""
    match leaf:
        case (
            syntax.Comparison(operator="==", left=syntax.Term() as term, right=syntax.Text(value=v))
            | syntax.Comparison(
                operator="==", left=syntax.Text(value=v), right=syntax.Term() as term
            )
        ):
            return _spelled(term, [v])
        case syntax.Member(operand=syntax.Term() as term, container=syntax.Choice(items=items)):
            return _spelled(term, [item.value for item in items if isinstance(item, syntax.Text)])
        case syntax.Member(
            operand=syntax.Term() as term, container=syntax.ListReference(name=name)
        ):
            return _listed(term, name, lists)
        case syntax.TextComparison(
            operator=sign, left=syntax.Term() as term, right=syntax.Text(value=v)
        ) if sign == "iequals" or VOCABULARY[term.name].quoted:
            return _spelled(term, [v], nocase=sign.startswith("i"))
        case _:
            return None


def _spelled(term: syntax.Term, texts: Sequence[bytes], *, nocase: bool = False) -> Trigger | None:
    """One of `texts`, as the payload spells the field that has it for a value."""
    field = VOCABULARY[term.name]
    if field.quoted is not None:
        spelled: list[bytes | None] = list(texts)
    elif field.spell is not None:
        spelled = [field.spell(text) for text in texts]
    else:
        return None
    if not all(spelled):
        return None
    nocase |= field.quoted != "exact"
    return Trigger(frozenset(literal(text, nocase=nocase) for text in spelled if text))


def _listed(term: syntax.Term, name: str, lists: Lists) -> Trigger | None:
    """One of a list's entries, as the payload spells the field whose value ends with it."""
    field = VOCABULARY[term.name]
    if field.spell is None or field.implied is None or not field.follows:
        return None
    entries = lists.entries(name, Type.TEXT)
    assert isinstance(entries, TextList)
    if sum(map(len, entries.entries)) > MAX_LISTED_B:
        return None
    spelled = {text for entry in entries.entries if (text := field.spell(entry))}
    if not spelled:
        return None
    before = HsExpression(field.implied.regex, bits=field.implied.bits)
    return Trigger(frozenset({one_of(before, spelled)}))


def _pinning(byte_sets: Mapping[int, frozenset[int]]) -> Trigger | None:
    if not byte_sets:
        return None
    possible = all(byte_sets.values())
    return Trigger(frozenset({pinned(byte_sets)}) if possible else frozenset())


def _any_of(triggers: Sequence[Trigger | None]) -> Trigger | None:
    expressions: set[HsExpression] = set()
    for trigger in triggers:
        if trigger is None:
            return None
        expressions |= trigger.expressions
    return Trigger(frozenset(expressions))


def _byte_sets(condition: syntax.Expression) -> dict[int, frozenset[int]]:
    """For each offset that a condition constrains, the values its byte can have."""
    match condition:
        case syntax.Comparison(operator="==", left=left, right=right):
            for side, other in ((left, right), (right, left)):
                value = constant(other)
                if isinstance(side, syntax.Term) and value is not None:
                    return _exact(side, value) or _single_byte(condition)
            return _single_byte(condition)
        case syntax.Comparison():
            return _single_byte(condition)
        case syntax.Member(operand=syntax.Term(), container=syntax.Choice(items=items)):
            return _one_of(condition.operand, items)
        case _:
            return {}


def _exact(term: syntax.Expression, value: int) -> dict[int, frozenset[int]]:
    """The bytes of `uN(offset) == value`; a value that never fits pins an impossible byte."""
    read = _reads(term)
    if read is None:
        return {}
    offset, width, order = read
    if not 0 <= value < 1 << (8 * width):
        return {offset: frozenset()}
    data = value.to_bytes(width, "little" if order else "big")
    return {offset + i: frozenset({byte}) for i, byte in enumerate(data)}


def _one_of(
    term: syntax.Expression, items: Sequence[syntax.Expression]
) -> dict[int, frozenset[int]]:
    merged: dict[int, frozenset[int]] = {}
    for item in items:
        value = constant(item)
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
        if _holds(comparison.operator, left, right):
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


def _holds(operator: syntax.ComparisonOperator, left: int, right: int) -> bool:
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
