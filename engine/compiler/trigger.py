r"""The prefilter: what must have matched for a condition to be true.

A trigger is a set of expressions of which at least one matches whenever the condition is
true. It is found from the patterns; from comparisons that pin bytes at fixed offsets:
`u8(0) == 0x41 and u16(16) == 1` implies `^\x41.{15}\x00\x01`; from texts that must stand in
the payload for a field to equal or hold them; and from the fields, which are known only in
payloads of their protocol.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from engine.compiler.expression import HsExpression, literal, one_of, pinned
from engine.compiler.pins import ByteSets, holds, in_all, in_any, pinned_bytes
from engine.compiler.search import looked_for
from engine.fields import VOCABULARY
from engine.language import syntax
from engine.language.lists import Lists, TextList
from engine.language.parser import walk
from engine.language.places import named_patterns, needed
from engine.language.values import constant
from engine.language.vocabulary import Type

# Of a list with more bytes in it than this the entries are not looked for before the condition
# is asked: Hyperscan takes expressions of 16,000 characters.
MAX_LISTED_B = 3072


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
    return _find(condition, patterns, lists or Lists({}))[0]


def _find(
    condition: syntax.Expression, patterns: Sequence[syntax.Pattern], lists: Lists
) -> tuple[Trigger | None, ByteSets]:
    """The strongest trigger of a condition, and what it pins for those around it."""
    if isinstance(condition, syntax.And | syntax.Or):
        found = [_find(operand, patterns, lists) for operand in condition.operands]
        triggers, each_sets = [trigger for trigger, _ in found], [sets for _, sets in found]
        if isinstance(condition, syntax.And):
            byte_sets = in_all(each_sets)
            return _strongest([*triggers, _pinning(byte_sets)]), byte_sets
        byte_sets = in_any(each_sets)
        return _strongest([_any_of(triggers), _pinning(byte_sets)]), byte_sets
    byte_sets = pinned_bytes(condition)
    return _strongest([_pinning(byte_sets), *_of_leaf(condition, patterns, lists)]), byte_sets


def _of_leaf(
    leaf: syntax.Expression, patterns: Sequence[syntax.Pattern], lists: Lists
) -> Iterator[Trigger | None]:
    match leaf:
        case syntax.Not(operand=syntax.Known()):
            return  # true where a field is not known
        case syntax.Match(place=place):
            (pattern,) = named_patterns(leaf, patterns)
            yield Trigger(frozenset({looked_for(pattern, place)}))
        case syntax.Of(place=place):
            named = named_patterns(leaf, patterns)
            each = [Trigger(frozenset({looked_for(p, place)})) for p in named]
            # With n of m wanted, one of any m - n + 1 must be among the matching ones.
            each.sort(key=lambda t: -t.bits)
            yield _any_of(each[: len(each) - needed(leaf, len(each)) + 1])
        case _:
            yield _counted(leaf, patterns)
            yield _text(leaf, lists)
    yield from _views(leaf)


def _strongest(found: Iterable[Trigger | None]) -> Trigger | None:
    candidates = [trigger for trigger in found if trigger is not None]
    # Among equals the fewest expressions.
    return max(candidates, key=lambda t: (t.bits, -len(t.expressions)), default=None)


def _views(leaf: syntax.Expression) -> Iterator[Trigger]:
    """What each field that a leaf reads implies: the leaf is unknown where one of them is."""
    for node in walk(leaf):
        if isinstance(node, syntax.Term) and (implied := VOCABULARY[node.name].implied):
            yield Trigger(frozenset({HsExpression(implied.regex, bits=implied.bits)}))


def _counted(leaf: syntax.Expression, patterns: Sequence[syntax.Pattern]) -> Trigger | None:
    """The pattern of a count that must not be 0."""
    match leaf:
        case syntax.Comparison(operator=sign, left=syntax.Count() as count, right=other):
            number = constant(other)
            must_match = number is not None and not holds(sign, 0, number)
        case syntax.Comparison(operator=sign, left=other, right=syntax.Count() as count):
            number = constant(other)
            must_match = number is not None and not holds(sign, number, 0)
        case syntax.Member(
            operand=syntax.Count() as count, container=syntax.Choice(constants=items)
        ):
            must_match = all(constant(item) for item in items)
        case _:
            return None
    pattern = next(p for p in patterns if p.name == count.pattern)
    return Trigger(frozenset({looked_for(pattern, count.place)})) if must_match else None


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
        case syntax.Member(operand=syntax.Term() as term, container=syntax.Choice(constants=items)):
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


def _pinning(byte_sets: ByteSets) -> Trigger | None:
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
