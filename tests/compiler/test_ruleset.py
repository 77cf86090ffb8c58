from __future__ import annotations

import pytest

from engine.compiler.ruleset import Bank, RuleSet
from engine.fields import Context
from engine.language.diagnostics import SignatureError
from tests.compiler.written import signature

HELLO = '$hello = "hello"'


def found(bank: Bank, payload: bytes) -> list[str]:
    return [rule.id for rule in bank.decide(bank.database.scan(payload), Context(payload))]


@pytest.mark.parametrize(
    ("transport", "inspect", "holds"),
    [
        ("udp", "packet", (1, 0, 0)),
        ("tcp", "stream", (0, 1, 0)),
        ("tcp", "packet", (0, 0, 1)),
    ],
)
def test_a_signature_is_for_one_kind_of_buffer(
    transport: str, inspect: str, holds: tuple[int, int, int]
) -> None:
    ruleset = RuleSet([signature("$hello", HELLO, transport=transport, inspect=inspect)])
    banks = (ruleset.udp, ruleset.tcp_stream, ruleset.tcp_packet)
    assert tuple(len(bank.rules) for bank in banks) == holds
    assert tuple(len(found(bank, b"hello")) for bank in banks) == holds


@pytest.mark.parametrize(
    ("when", "needs_python"),
    [
        ("$hello", False),
        ("$hello at 0 or $hello in 4..8", False),
        ("any of them", False),
        ("1 of them", False),
        ("all of them", False),
        ("$hello and size > 4", True),
        ("$hello or u8(0) == 1", True),
    ],
)
def test_python_runs_only_for_what_patterns_do_not_decide(when: str, needs_python: bool) -> None:
    (rule,) = RuleSet([signature(when, HELLO + '\n$hi = "hi, you"')]).udp.rules
    assert (rule.predicate is not None) is needs_python


def test_rules_are_found_in_the_order_of_their_signatures() -> None:
    signatures = [
        signature("size > 2", name="a.always", always=True),
        signature("$hello", HELLO, name="b.trigger"),
        signature("u32(0) == 0x68656c6c", name="c.bytes"),
        signature("$hello and size > 9", HELLO, name="d.longer"),
    ]
    for order in (signatures, signatures[::-1]):
        bank = RuleSet(order).udp
        assert bank.needs_every_packet
        assert found(bank, b"hello") == [s.id for s in order if s.id != "d.longer"]
        assert found(bank, b"xxx") == ["a.always"]
        assert found(bank, b"x") == []


def test_signatures_share_expressions() -> None:
    bank = RuleSet([signature("$hello", HELLO, name=f"a.{name}") for name in "bcd"]).udp
    assert bank.database.scan(b"hello") == [0]
    assert found(bank, b"hello") == ["a.b", "a.c", "a.d"]


def test_every_refused_pattern_is_named() -> None:
    bad = '$a = "abcd"\n$b = /x(?=y)/\n$c = /A*/'
    with pytest.raises(SignatureError) as caught:
        RuleSet([signature("$a and $b or 1 of ($c)", bad), signature("$hello", HELLO, name="a.c")])
    errors = [d for d in caught.value.diagnostics if d.severity == "error"]
    assert {(d.code, d.span.line) for d in errors} == {("S019", 2), ("S019", 3)}


@pytest.mark.parametrize(("transport", "inspect"), [("udp", "packet"), ("tcp", "stream")])
def test_a_disabled_signature_takes_part_in_nothing(transport: str, inspect: str) -> None:
    on, off = (
        signature("$hello", HELLO, name=name, transport=transport, inspect=inspect, enabled=enabled)
        for name, enabled in (("a.on", True), ("a.off", False))
    )
    ruleset = RuleSet([off, on])
    bank = ruleset.udp if transport == "udp" else ruleset.tcp_stream
    assert found(bank, b"hello") == ["a.on"]
    assert (ruleset.signatures, ruleset.disabled) == ((on,), (off,))


def test_a_disabled_signature_that_cannot_be_compiled_is_refused() -> None:
    with pytest.raises(SignatureError, match="S019"):
        RuleSet([signature("$a", "$a = /x*/", enabled=False), signature("$hello", HELLO)])
