from __future__ import annotations

import pickle

import pytest
from hypothesis import HealthCheck, assume, given, settings

from engine.compiler.database import Database
from engine.compiler.expression import placed
from engine.compiler.normal import normalise
from engine.compiler.predicate import compile_predicate, placed_patterns
from engine.compiler.ruleset import RuleSet
from engine.compiler.search import find_searches
from engine.compiler.trigger import find_trigger
from engine.fields import Context
from engine.language.diagnostics import SignatureError, has_errors
from tests.compiler import conditions, kleene, written

generous = settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)


def context(payload: bytes) -> Context:
    return Context(payload, bytes([10, 0, 0, 1]), bytes(4), 2, 65)


def decided(when: str, named: str, payload: bytes, *, always: bool) -> bool:
    ruleset = RuleSet([written.signature(when, named, always=always)])
    bank = ruleset.udp
    return bool(bank.decide(bank.database.scan(payload), context(payload)))


@generous
@given(conditions.conditions, conditions.patterns, conditions.payloads)
def test_compiled_conditions_mean_what_the_language_says(
    when: str, named: str, payload: bytes
) -> None:
    assume(not has_errors(written.checked(when, named)))
    meant = kleene.truth(written.condition(when), written.patterns(named), context(payload))
    assert decided(when, named, payload, always=True) == (meant is True)
    # The same with a trigger in front, where there is one.
    try:
        triggered = decided(when, named, payload, always=False)
    except SignatureError as error:
        assert {d.code for d in error.diagnostics if d.severity == "error"} == {"S020"}
    else:
        assert triggered == (meant is True)


@generous
@given(conditions.conditions, conditions.patterns, conditions.payloads)
def test_a_trigger_hides_no_true_condition(when: str, named: str, payload: bytes) -> None:
    assume(not has_errors(written.checked(when, named)))
    patterns = written.patterns(named)
    trigger = find_trigger(normalise(written.condition(when)), patterns)
    assume(trigger is not None)
    assert trigger is not None
    if kleene.truth(written.condition(when), patterns, context(payload)):
        assert Database(list(trigger.expressions)).scan(payload)


@pytest.mark.parametrize(
    ("when", "payload", "meant"),
    [
        ("u8(9) == 0", b"A", False),
        ("not u8(9) == 0", b"A", False),
        ("not (u8(9) == 0 and size == 9)", b"A", True),
        ("u8(9) == 0 or size == 1", b"A", True),
        ("not (u8(9) == 0 or size == 2)", b"A", False),
        ("not u8(9) in [1, 2]", b"A", False),
        ("not u8(9) in 1..2", b"A", False),
        ("not $a at 9", b"A", True),
        ("1 / u8(0) == 0", b"\0", False),
        ("1 % u8(0) != 7", b"\0", False),
        ("-7 / 2 == -4 and -7 % 2 == 1", b"", True),
        ("1 << u8(0) == 1 << 63", b"\x3f", True),
        ("1 << u8(0) != 0", b"\x40", False),
        ("1 << -1 != 0", b"", False),
        ("u8(-1) != 7", b"A", False),
        ("u8(u8(0)) == 0x42", b"\x01\x42", True),
        ("u16(0) == 0x4142 and u16le(0) == 0x4241", b"AB", True),
        ("u64(0) == 0xffffffffffffffff", b"\xff" * 8, True),
        ("u8(0) & 0x0f == 1", b"\x41", True),
        ("2 + 3 * 4 == 14 and 1 | 2 ^ 3 & 1 == 3", b"", True),
        ("entropy(0, 4) == 2.0 and printable(0, 4) == 0.5", b"AB\0\x01", True),
        ("entropy(0, 0) >= 0 or not entropy(0, 0) >= 0", b"AB", False),
        ("length(bencode.y) == 1", b"d1:y1:qe", True),
        ("not length(bencode.y) == 1", b"x", False),
        ("src.ip in 10.0.0.0/8 and not src.ip in ::/0", b"", True),
        ("1 of ($a)", b"A", True),
        ("not any of ($a, $b)", b"B", True),
        ("2 of them", b"AA", False),
        ("all of them in 0..2", b"xAb", False),
        ("known(u8(9))", b"A", False),
        ("not known(u8(9))", b"A", True),
        ("known(u8(0))", b"A", True),
        ("known(u8(u8(0)))", b"\x01\x02", True),
        ("known(u8(u8(0)))", b"\x02\x02", False),
        ("not known(7 / u8(0))", b"\0", True),
        ("known(bencode.y) and not known(bencode.q)", b"d1:y1:qe", True),
        ("not (known(bencode.y) or u8(9) == 0)", b"x", False),
        ("bencode.y matches /^q$/", b"d1:y1:qe", True),
        ("bencode.y matches /^Q$/ or not bencode.y imatches /^Q$/", b"d1:y1:qe", False),
        ("not bencode.y matches /q/", b"x", False),
        ("bencode.y matches /q/", b"d1:y0:e", False),
        ("u8(0) in [1, 3..5, 7] and u8(1) not in [1, 3..5, 7]", b"\x04\x04", False),
        ("u8(0) in [1, 3..5, 7] and u8(1) not in [1, 3..5, 7]", b"\x04\x05", True),
        ("u8(9) not in [1, 3..5]", b"A", False),
        ("src.ip in [192.168.0.0/16, 10.0.0.0/8] and src.ip not in [::1, ::2]", b"", True),
    ],
)
def test_meaning(when: str, payload: bytes, meant: bool) -> None:
    named = '$a = "A"\n$b = "b"'
    told = kleene.truth(written.condition(when), written.patterns(named), context(payload))
    assert (told is True) is meant
    assert decided(when, named, payload, always=True) is meant


def test_thousands_of_patterns_are_counted() -> None:
    named = "".join(f'$p{i} = "{i:04}"\n' for i in range(900))
    assert decided("3 of them and size > 0", named, b"0001 0500 0899", always=False)
    assert not decided("3 of them and size > 0", named, b"0001 0500 0500", always=False)


def test_predicate_survives_pickling() -> None:
    when = "u8(0) in [1, 2] and src.ip in 10.0.0.0/8 and $a or bencode.y imatches /^Q/"
    condition = written.normal(when)
    patterns = written.patterns('$a = "A"')
    (expression,) = [placed(*p) for p in placed_patterns(condition, patterns)]
    searches = find_searches(condition, patterns)
    predicate = compile_predicate("x", condition, patterns, {expression: 7}, searches)
    restored = pickle.loads(pickle.dumps(predicate))
    for payload, hits in ((b"\x01", [7]), (b"\x01", []), (b"\x03", [7]), (b"d1:y1:qe", [])):
        assert restored.when(context(payload), hits) == predicate.when(context(payload), hits)
    assert predicate.when(context(b"\x01"), [7])
    assert predicate.when(context(b"d1:y1:qe"), [])
