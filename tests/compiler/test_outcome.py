"""What becomes of conditions about turns, against their slow evaluation."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.compiler.explain import Explainer
from engine.compiler.outcome import LATER, NEVER, NOW
from engine.compiler.ruleset import RuleSet
from engine.fields import Context
from engine.fields.turns import Turns
from tests.compiler.written import signature

Step = tuple[bool, bytes]


def turns_after(steps: list[Step]) -> Turns:
    turns = Turns()
    for from_client, data in steps:
        turns.add(from_client, len(data), data)
    return turns


def outcome(when: str, steps: list[Step]) -> int:
    flow = signature(when, inspect="flow", always=True)
    (rule,) = RuleSet([flow]).udp_flow.rules
    return rule.outcome(Context(b"", turns=turns_after(steps)))


A, B = (True, b"abcd"), (False, b"xy")


@pytest.mark.parametrize(
    ("when", "steps", "expected"),
    [
        ("turn(0).size in 4..9", [A], NOW),
        ("turn(0).size in 5..9", [A], LATER),
        ("turn(0).size in 5..9", [A, B], NEVER),
        ("turn(0).size < 4", [A], NEVER),
        ("3 >= turn(0).size", [A], NEVER),
        ("turn(1).size < 4", [A], LATER),
        ("turn(0).size == 3", [A], NEVER),
        ("turn(0).size == 5", [A], LATER),
        ("turn(0).size == 5", [A, B], NEVER),
        ("turn(0).size != 4", [A], LATER),
        ("turn(0).size != 4", [A, B], NEVER),
        ("turn(0).u8(0) == 1", [A], NEVER),
        ("turn(0).u8(9) == 1", [A], LATER),
        ("turn(0).u8(9) == 1", [A, B], NEVER),
        ("not turn(0).u8(0) in [0x61, 0x62]", [A], NEVER),
        ('turn(1).text(0, 2) == "xz"', [A, B], NEVER),
        ('turn(1).text(0, 2) contains "z"', [A], LATER),
        ("turn(0).u8(0) == turn(1).u8(0)", [A], LATER),
        ("turn(0).u8(0) == turn(1).u8(0)", [A, B], NEVER),
        ("turn(0).u8(turn(1).size) == 1", [A, B], LATER),
        ("turn(0).u8(turn(1).size) == 1", [A, B, A], NEVER),
        ("turn(0).entropy(0, 4) > 3.0", [A], NEVER),
        ("turn(0).from_client", [B], NEVER),
        ("turn(0).ends_at(4)", [A], NOW),
        ("turn(0).ends_at(5)", [A], LATER),
        ("turn(0).ends_at(5)", [A, B], NEVER),
        ("turn(0).complete", [A], LATER),
        ("turns == 1", [A, B], LATER),
        ('src.tagged("a")', [A], LATER),
        ("src.port == 5 and turn(0).u8(0) == 1", [A], NEVER),
        ("turn(0).size > 9 and turn(0).u8(0) == 1", [A], LATER),
        ("turn(1).size > 9 and turn(0).u8(0) == 1", [A], NEVER),
        ("turn(0).u8(0) == 1 or turn(0).size < 4", [A], NEVER),
        ("turn(0).u8(0) == 1 or turn(0).size > 4", [A], LATER),
        ("turn(0).u8(0) == 1 or turn(0).size == 4", [A], NOW),
        ("1 == 2 and turn(0).size == 4", [A], NEVER),
        ("known(turn(1).size)", [A], LATER),
        ("known(turn(1).size)", [A, B], NOW),
        ("known(turn(0).u8(9))", [A], LATER),
        ("known(turn(0).u8(9))", [A, B], NEVER),
        ("not known(turn(0).u8(9))", [A], NOW),
        ("not known(turn(0).u8(1))", [A], NEVER),
        ("turn(0).text(0, 4) matches /b.d$/", [A], NOW),
        ("turn(0).text(0, 4) matches /^b/", [A], NEVER),
        ("turn(0).text(0, 5) matches /b/", [A], LATER),
        ("turn(0).size in [1, 5..9]", [A], LATER),
        ("turn(0).size in [1, 5..9]", [A, B], NEVER),
        ("turn(0).size not in [1, 4..9]", [A, B], NEVER),
    ],
)
def test_outcome(when: str, steps: list[Step], expected: int) -> None:
    assert outcome(when, steps) == expected


small = st.integers(0, 4)
_reads = st.one_of(
    st.builds("turn({}).size".format, st.integers(0, 3)),
    st.builds("turn({}).u8({})".format, st.integers(0, 3), small),
    st.builds("turn({}).u16({})".format, st.integers(0, 3), small),
    st.builds("turn(0).u8(turn(1).size - {})".format, small),
    st.sampled_from(["turns", "flow.bytes", "src.port"]),
)
_numbers = st.one_of(small.map(str), _reads, st.builds("({} + {})".format, _reads, small))
_leaves = st.one_of(
    st.builds(
        "{} {} {}".format, _numbers, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), _numbers
    ),
    st.builds("{} in [{}, {}]".format, _reads, small, small),
    st.builds("{} in {}..5".format, _reads, small),
    st.builds("{} in [{}, {}..5]".format, _reads, small, small),
    st.builds("known({})".format, _reads.filter(lambda read: read.startswith("turn("))),
    st.builds("turn({}).text({}, 2) matches /[\\x01\\x02]$/".format, st.integers(0, 3), small),
    st.builds("turn({}).complete".format, st.integers(0, 3)),
    st.builds("turn({}).from_client".format, st.integers(0, 3)),
    st.builds("turn({}).ends_at({})".format, st.integers(0, 3), _numbers),
    st.builds('turn({}).text({}, 1) == "\\x01"'.format, st.integers(0, 3), small),
    st.builds("turn({}).printable(0, {}) > 0.5".format, st.integers(0, 3), small),
)


def _joined(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    parts = st.lists(inner, min_size=2, max_size=3)
    return st.one_of(
        parts.map(lambda p: "(" + " and ".join(p) + ")"),
        parts.map(lambda p: "(" + " or ".join(p) + ")"),
        inner.map(lambda c: f"not ({c})"),
    )


conditions = st.recursive(_leaves, _joined, max_leaves=6)
flows = st.lists(
    st.tuples(st.booleans(), st.lists(st.integers(0, 3), min_size=1, max_size=3).map(bytes)),
    min_size=1,
    max_size=9,
)


@given(conditions, flows)
def test_now_is_what_is_true_and_never_is_final(when: str, steps: list[Step]) -> None:
    flow = signature(when, inspect="flow", always=True)
    bank = RuleSet([flow]).udp_flow
    (rule,) = bank.rules
    explainer = Explainer(flow)
    never = not bank.may_begin(steps[0][1])
    for end in range(1, len(steps) + 1):
        context = Context(b"", turns=turns_after(steps[:end]))
        true = explainer.evaluate(context).value is True
        found = rule.outcome(context)
        assert (found == NOW) is true
        assert not (never and true)
        never = never or found == NEVER


def test_a_beginning_that_no_signature_waits_for() -> None:
    flow = signature("turn(0).u8(0) in [1, 2] and turn(1).size > 3", inspect="flow", always=True)
    bank = RuleSet([flow]).udp_flow
    begin = [byte for byte in range(256) if bank.may_begin(bytes([byte]))]
    assert begin == [1, 2]
    assert begin == [byte for byte in range(256) if bank.may_begin(bytes([byte]))]
    assert not RuleSet([]).udp_flow.may_begin(b"\x01")


def test_every_turn_is_asked_in_its_order() -> None:
    """What the first turn rules out costs no look at the later ones."""
    for order in itertools.permutations(["turn(0).u8(0) == 1", "turn(1).size > 3", "turns > 2"]):
        assert outcome(" and ".join(order), [A]) == NEVER
