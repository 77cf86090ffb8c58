from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given

from engine.compiler.evaluation import Evaluation
from engine.compiler.explain import Explainer
from engine.fields import VOCABULARY, Context
from engine.fields.views import VIEWS
from engine.language import syntax
from engine.language.diagnostics import has_errors
from engine.language.vocabulary import Type
from tests.compiler import conditions, kleene, written
from tests.compiler.test_predicate import context, decided, generous


def explained(when: str, payload: bytes, named: str = "") -> Evaluation:
    explainer = Explainer(written.signature(when, named))
    seen = context(payload)
    return explainer.annotate(explainer.evaluate(seen), seen)


def notes(evaluation: Evaluation) -> list[str]:
    below = [note for part in evaluation.parts for note in notes(part)]
    return [evaluation.note, *below] if evaluation.note else below


@generous
@given(conditions.conditions, conditions.patterns, conditions.payloads)
def test_explained_conditions_come_to_what_they_mean(when: str, named: str, payload: bytes) -> None:
    assume(not has_errors(written.checked(when, named)))
    evaluation = explained(when, payload, named)
    assert decided(when, named, payload, always=True) == (evaluation.value is True)
    assert evaluation.value is kleene.truth(
        written.condition(when), written.patterns(named), context(payload)
    )
    assert (evaluation.nearness == 1.0) == (evaluation.value is True)


@generous
@given(conditions.conditions, conditions.patterns, conditions.payloads)
def test_what_is_unknown_says_why(when: str, named: str, payload: bytes) -> None:
    assume(not has_errors(written.checked(when, named)))

    def check(evaluation: Evaluation) -> None:
        if evaluation.value is None:
            assert notes(evaluation), evaluation.node
        for part in evaluation.parts:
            check(part)

    check(explained(when, payload, named))


@pytest.mark.parametrize(
    ("when", "payload", "why"),
    [
        ("u32(9) == 0", b"twelve bytes", "past the end of 12 bytes"),
        ("u8(1) == 0", b"A", "past the end of 1 byte"),
        ("u8(0 - 1) == 0", b"A", "offset -1 is before the start"),
        ("entropy(0, 0) > 1.0", b"A", "there are no 0 bytes"),
        ("printable(0, 9) > 0.5", b"A", "past the end of 1 byte"),
        ("u8(0) / (size - 1) == 0", b"A", "a division by zero"),
        ("1 << size == 0", bytes(64), "a shift by 64 bits; from 0 to 63 there are"),
        ("utp.type == 1", b"A", "not a uTP packet"),
        ('bencode.q == "q"', b"A", "not a bencoded dictionary"),
        ("length(bencode.q) == 1", b"d1:y1:qe", "a bencoded dictionary without it"),
        ('http.header("a") == "b"', b"GET / HTTP/1.1\r\n\r\n", "an HTTP/1 message without it"),
        ("dns.response", b"A", "not a DNS message"),
        ("flow.from_client", b"A", "the beginning of the flow was not seen"),
    ],
)
def test_why_a_value_is_unknown(when: str, payload: bytes, why: str) -> None:
    evaluation = explained(when, payload)
    assert evaluation.value is None
    assert notes(evaluation) == [why]


@pytest.mark.parametrize(
    ("when", "payload", "value", "note"),
    [
        ("$a at 3", b"xxxAB", True, "at 3"),
        ("$a at 3", b"AB...AB", False, "it stands at 0, 5"),
        ("$a in 4..9", b"AB...AB", True, "at 5"),
        ("$a", b"AB...AB", True, "at 0, 5"),
        ("$a", b"abab", False, "nowhere in 4 bytes"),
        ("$a", b"AB" * 9, True, "at 0, 2, 4, 6, 8 and 4 more"),
    ],
)
def test_where_a_pattern_stands(when: str, payload: bytes, value: bool, note: str) -> None:
    evaluation = explained(when, payload, '$a = "AB"')
    assert (evaluation.value, evaluation.note) == (value, note)


def test_which_patterns_of_a_set_matched() -> None:
    evaluation = explained("2 of them", b"one", '$a = "one"\n$b = "two"\n$c = "three"')
    assert (evaluation.value, evaluation.note) == (False, "1 of 3, without $b, $c")
    assert [part.note for part in evaluation.parts] == [
        "at 0",
        "nowhere in 3 bytes",
        "nowhere in 3 bytes",
    ]


@pytest.mark.parametrize(
    ("when", "nearness"),
    [
        ("size == 1 and size == 2", 0.5),
        ("size == 1 and size == 2 and u8(9) == 0", 1 / 3),
        ("size == 2 or (size == 1 and size == 3)", 0.5),
        ("size == 2 or size == 1", 1.0),
        ("not (size == 2 or size == 1)", 0.5),
        ("not (size == 1 and size == 3)", 1.0),
        ("not not size == 1", 1.0),
        ("not u8(9) == 0", 0.0),
    ],
)
def test_nearness(when: str, nearness: float) -> None:
    assert explained(when, b"A").nearness == pytest.approx(nearness)


def test_values_on_the_way_are_kept() -> None:
    evaluation = explained("u8(u8(0)) & 0x0f == 2", b"\x01\x42")
    masked = evaluation.parts[0]
    assert isinstance(masked.node, syntax.Arithmetic)
    outer = masked.parts[0]
    inner = outer.parts[0]
    assert (masked.value, outer.value, inner.value) == (2, 0x42, 1)


def test_every_field_says_why_it_is_unknown() -> None:
    nothing = Context(b"")
    for name, field in VOCABULARY.items():
        numbers = [0 if kind is Type.NUMBER else b"" for _, kind in field.parameters]
        if not field.certain:
            assert field.read(nothing, *numbers) is None
            term = syntax.Term(name=name, span=written.SPAN)
            explainer = Explainer(written.signature("size == 0"))
            parts = tuple(Evaluation(term, number) for number in numbers)
            (why,) = notes(explainer.annotate(Evaluation(term, None, parts), nothing))[-1:]
            assert why, name


class Asked(Context):
    """Keeps which parser a field has asked for."""

    def view(self, parse: Callable[[bytes], Any]) -> Any:
        self.parse = parse


def test_views_are_what_the_fields_read() -> None:
    for name, field in VOCABULARY.items():
        view = VIEWS.get(name.partition(".")[0])
        if view is not None:
            context = Asked(b"")
            field.read(context, *[b""] * len(field.parameters))
            assert context.parse is view.parse, name
