from __future__ import annotations

import functools
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.compiler.pieces import Assembly, write_pieces
from engine.compiler.ruleset import Bank, RuleSet
from engine.fields import Context
from engine.paths import shipped_signatures
from engine.selftest import self_test
from engine.signatures import load
from tests.compiler.conditions import payloads
from tests.compiler.written import signature

SHIPPED = load(shipped_signatures())
EXAMPLES = [test.payload for s in SHIPPED.signatures for test in s.tests]


def travelled(ruleset: RuleSet) -> tuple[RuleSet, int]:
    """A RuleSet put together from its pieces, and how many these were."""
    file = io.BytesIO()
    write_pieces(ruleset, file)
    file.seek(0)
    assembly, count = Assembly(file), 1
    while (arrived := assembly.next()) is None:
        count += 1
    return arrived, count


def found(bank: Bank, payload: bytes) -> list[str]:
    return [rule.id for rule in bank.decide(bank.database.scan(payload), Context(payload))]


COPY, _ = travelled(SHIPPED.without_sources())


@given(st.one_of(st.sampled_from(EXAMPLES), payloads, st.binary(max_size=64)))
def test_the_pieces_decide_what_the_whole_did(payload: bytes) -> None:
    for bank, copy in (
        (SHIPPED.udp, COPY.udp),
        (SHIPPED.tcp_stream, COPY.tcp_stream),
        (SHIPPED.tcp_packet, COPY.tcp_packet),
    ):
        assert found(copy, payload) == found(bank, payload)


def test_the_copy_passes_the_tests_of_its_signatures() -> None:
    copy, _ = travelled(SHIPPED)
    assert self_test(copy) == []
    assert [r.then for r in copy.udp.rules] == [r.then for r in SHIPPED.udp.rules]


@functools.cache
def many() -> RuleSet:
    return RuleSet(
        [
            signature(f"$a and size > {number}", f'$a = "hello {number};"', name=f"a.n{number}")
            for number in range(500)
        ]
    )


@pytest.mark.parametrize("number", [0, 199, 200, 499])
def test_many_signatures_take_many_pieces(number: int) -> None:
    arrived, count = travelled(many().without_sources())
    assert count > 3
    assert arrived.statistics == many().statistics
    payload = b"hello %d;" % number + bytes(number)
    assert found(arrived.udp, payload) == [f"a.n{number}"]
