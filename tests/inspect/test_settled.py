"""When nothing is looked for any longer in what one side of a connection sends."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.compiler.ruleset import RuleSet
from engine.inspect.inspector import Inspector
from engine.inspect.judgement import ACCEPTED, DROPPED, SETTLED, Judgement
from engine.inspect.packet import ACK, SYN
from engine.inspect.stream import PREFIX_B
from tests.captures import tcp
from tests.inspect.flows import rules

HOSTS = {4: ("10.0.0.1", "10.0.0.2"), 6: ("2001:db8::1", "2001:db8::2")}
STREAM = ("a.stream", "tcp", "stream", "u8(0) == 1", {"action": "drop"})
LATER = ("a.later", "tcp", "stream", "u32(0) == 0x47455420 and u8(4) == 0x61", {"action": "log"})
PACKET = ("a.packet", "tcp", "packet", "u8(0) == 3", {"action": "log"})
FLOW = ("a.flow", "tcp", "flow", "turn(5).size == 3", {"action": "log"})
EVERY = 3
DATA = b"x" * 1400


@dataclass
class Talk:
    """A connection between two hosts that lose nothing, through an inspector."""

    inspector: Inspector
    family: int = 4

    def __post_init__(self) -> None:
        self.sent = [0, 0]
        self.sees(0, b"", SYN)
        self.sees(1, b"", SYN | ACK)

    def sees(self, side: int, payload: bytes, flags: int = ACK, back: int = 0) -> Judgement:
        """A side sends, or sends again what stands `back` bytes before; the other has all."""
        ends = HOSTS[self.family][side], 1 + side, HOSTS[self.family][1 - side], 2 - side
        first, other = 1000 * (side + 1), 1000 * (2 - side)
        at = first + self.sent[side] - back - bool(flags & SYN)
        received = other + self.sent[1 - side] if flags & ACK else 0
        judgement = self.inspector.inspect(
            tcp(*ends, payload, sequence=at, flags=flags, acknowledgement=received), 0
        )
        self.sent[side] = max(self.sent[side], self.sent[side] - back + len(payload))
        return judgement

    def settles(self, side: int, packets: int = 3 * EVERY) -> bool:
        """Whether acknowledgements of the other side's tell that this one has settled."""
        judgements = [self.sees(1 - side, b"") for _ in range(packets)]
        return any(judgement is SETTLED for judgement in judgements)


def begun(*kinds: tuple[str, str, str, str, dict[str, object]], family: int = 4) -> Talk:
    return Talk(Inspector(rules(*kinds), settles_every=EVERY), family)


@pytest.mark.parametrize("family", [4, 6])
def test_a_side_settles_once_its_start_has_arrived(family: int) -> None:
    talk = begun(STREAM, family=family)
    talk.sees(0, b"hello")
    assert not talk.settles(1)
    talk.sees(1, DATA)
    assert not talk.settles(1)
    talk.sees(1, DATA)
    assert talk.settles(1)
    assert not talk.settles(0), "it has not said enough"


def test_what_has_not_arrived_may_still_come_otherwise() -> None:
    talk = begun(STREAM)
    talk.sees(0, DATA)
    talk.sees(0, DATA)
    talk.sent[0] = PREFIX_B - 1  # so much has the other side received
    assert not talk.settles(0)
    talk.sent[0] = PREFIX_B
    assert talk.settles(0)


def test_it_is_told_once_in_so_many_packets() -> None:
    talk = begun(STREAM)
    talk.sees(1, DATA * 2)
    judgements = [talk.sees(0, b"") for _ in range(4 * EVERY)]
    told = [n for n, judgement in enumerate(judgements) if judgement is SETTLED]
    assert [later - earlier for earlier, later in pairwise(told)] == [EVERY] * 3
    assert set(judgements) == {ACCEPTED}, "they are equal, but not the same"


def test_a_client_that_may_ask_again_never_settles_but_its_server_does() -> None:
    talk = begun(LATER)
    talk.sees(0, b"GET /" + DATA * 2)
    talk.sees(1, DATA * 2)
    assert not talk.settles(0)
    assert talk.settles(1)


def test_a_rule_that_waits_for_turns_or_wants_every_segment_keeps_it() -> None:
    talk = begun(FLOW)
    for side in (0, 1, 0):
        talk.sees(side, DATA * 2)
    assert not talk.settles(0)
    for side in (1, 0, 1, 0, 1):
        talk.sees(side, DATA)
    assert talk.settles(0)
    talk.inspector.ruleset = rules(PACKET)
    assert not talk.settles(0)


def test_a_dropped_flow_never_settles() -> None:
    talk = begun(STREAM)
    assert talk.sees(0, b"\1" + DATA * 2).detections
    assert {talk.sees(1, b"") for _ in range(9)} == {DROPPED}


def test_without_being_asked_for_nothing_settles() -> None:
    talk = Talk(Inspector(rules(STREAM)))
    talk.sees(1, DATA * 2)
    assert not talk.settles(1, 300)


steps = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.sampled_from([b"", b"", b"x" * 700, b"x" * 3000, b"GET /", b"GET abc", b"\1", b"xxx"]),
        st.sampled_from([0, 0, 0, 3, 2000]),
    ),
    max_size=40,
)


@pytest.mark.parametrize(
    "ruleset", [rules(STREAM, LATER), rules(STREAM, LATER, FLOW)], ids=["stream", "flow"]
)
@settings(deadline=None)
@given(steps)
def test_nothing_is_missed_of_what_goes_by(
    ruleset: RuleSet, steps: list[tuple[int, bytes, int]]
) -> None:
    everything, rest = Talk(Inspector(ruleset)), Talk(Inspector(ruleset, settles_every=1))
    said, goes_by = [b"", b""], [False, False]
    for side, payload, back in steps:
        if back:  # the same once more
            payload = said[side][-back:][:700]
            back = min(back, len(said[side]))
        else:
            said[side] += payload
        found = [d.signature for d in everything.sees(side, payload, back=back).detections]
        if goes_by[side] or (not payload and any(goes_by)):
            assert not found
            rest.sent[side] = everything.sent[side]
            continue
        judgement = rest.sees(side, payload, back=back)
        assert [d.signature for d in judgement.detections] == found
        goes_by[1 - side] |= judgement is SETTLED
