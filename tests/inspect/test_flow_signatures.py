"""Signatures of flows: what they stop, and what is kept for them."""

from __future__ import annotations

import gc
import itertools
import random
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.fields.turns import HEAD_B, MAX_FOLLOWED_B, MAX_TURNS, TURNS_WITH_BYTES
from engine.inspect.followed import NOT_BEGUN
from engine.inspect.inspector import Inspector
from engine.inspect.judgement import Verdict
from engine.inspect.packet import ACK, SYN, TCP, Packet
from tests.captures import udp
from tests.inspect.datagrams import datagrams, mutated
from tests.inspect.flows import (
    BACK,
    BLOCK,
    CLIENT,
    SERVER,
    SPACE,
    THERE,
    Connection,
    datagram,
    following,
    rules,
    segment,
)


def test_a_flow_is_stopped_at_the_packet_that_tells() -> None:
    when = "turn(0).size in 96..609 and turn(1).size in 96..609 and turn(2).size >= 58"
    connection = Connection(Inspector(following(when)))
    assert connection.send(True, 0, bytes(200)) == []
    assert connection.send(False, 0, bytes(300)) == []
    assert connection.send(True, 200, bytes(57)) == []
    assert connection.send(True, 257, bytes(1)) == ["a.tcp"]
    packet = segment(b"x", 2300, BACK)
    assert connection.inspector.judge(packet, 0).verdict is Verdict.DROP
    assert connection.turns is None


def test_what_has_been_told_is_let_go() -> None:
    inspector = Inspector(following("turn(0).size == 3", "log"))
    (detection,) = inspector.judge(datagram(b"abc"), 0).detections
    assert (detection.signature, detection.action) == ("a.udp", "log")
    assert inspector._udp.side(THERE).flow.turns is None
    assert not inspector.judge(datagram(b"abc"), 0).detections


def test_a_long_flow_is_followed_only_at_first() -> None:
    inspector = Inspector(following("flow.payload_packets == 40"))
    for _ in range(60):
        assert inspector.judge(datagram(bytes(1000)), 0).verdict is Verdict.ACCEPT
    assert inspector._udp.side(THERE).flow.turns is None
    assert MAX_FOLLOWED_B < 40 * 1000


def test_after_the_turns_that_are_kept_a_flow_is_not_followed() -> None:
    inspector = Inspector(following(f"turn({MAX_TURNS - 1}).complete", "log"))
    found = [
        bool(inspector.judge(datagram(b"x", key), 0).detections)
        for key, _ in zip(itertools.cycle((THERE, BACK)), range(2 * MAX_TURNS), strict=False)
    ]
    assert found == [n == MAX_TURNS for n in range(2 * MAX_TURNS)]


def test_a_flow_that_began_under_another_ruleset_is_not_followed() -> None:
    inspector = Inspector(rules(("a.b", "udp", "packet", "u8(0) == 1", BLOCK)))
    inspector.judge(datagram(b"abc"), 0)
    inspector.ruleset = following("turn(0).size > 0")
    assert inspector.judge(datagram(b"abc"), 0).verdict is Verdict.ACCEPT
    assert inspector.judge(datagram(b"abc", CLIENT + SERVER + bytes(4)), 0).verdict is Verdict.DROP


def test_nothing_is_recorded_without_signatures_of_flows() -> None:
    inspector = Inspector(
        rules(
            ("a.b", "udp", "flow", "turns > 9", BLOCK),
            ("a.c", "tcp", "packet", "u8(0) == 1", BLOCK),
        )
    )
    connection = Connection(inspector)
    connection.send(True, 0, b"abc")
    assert connection.turns is NOT_BEGUN


def test_what_one_signature_logs_another_may_stop() -> None:
    inspector = Inspector(
        rules(
            ("a.log", "tcp", "stream", "u8(0) == 0x61", {"action": "log"}),
            ("a.packet", "tcp", "packet", "u8(0) == 0x61", {"action": "log"}),
            ("b.flow", "tcp", "flow", 'turn(0).text(0, 1) == "a"', {"action": "log"}),
            ("c.stop", "tcp", "flow", "turn(1).size == 2", {"action": "drop"}),
            ("d.never", "tcp", "flow", "turn(2).size > 0", {"action": "block"}),
        )
    )
    connection = Connection(inspector)
    assert connection.send(True, 0, b"abc") == ["a.log", "a.packet", "b.flow"]
    assert connection.send(True, 3, b"abc") == []
    assert connection.send(False, 0, b"xy") == ["c.stop"]
    assert connection.send(True, 6, b"abc") == []
    assert inspector.judge(segment(b"z", 1009), 0).verdict is Verdict.DROP


def test_a_threshold_holds_a_flow_back() -> None:
    threshold = {"count": 2, "per": "src", "within": "10s"}
    then: dict[str, object] = {"action": "drop", "threshold": threshold}
    inspector = Inspector(rules(("a.b", "udp", "flow", "turn(0).size == 3", then)))
    keys = [CLIENT + SERVER + bytes([0, port, 0, 1]) for port in (1, 2)]
    verdicts = [inspector.judge(datagram(b"abc", key), 0).verdict for key in keys]
    assert verdicts == [Verdict.ACCEPT, Verdict.DROP]


EVERYTHING = rules(
    *[
        (f"a.{transport}-{number}", transport, "flow", when, then)
        for transport in ("tcp", "udp")
        for number, (when, then) in enumerate(
            [
                ("turn(0).entropy(0, 4) > 1.9 and turn(1).u32(1) > 5", {"action": "drop"}),
                ("turns > 2 or turn(0).printable(0, 2) > 0.9", {"action": "log"}),
                (
                    'flow.bytes / turn(1).size == 3 and not src.tagged("x")',
                    {"action": "tag", "tag": {"name": "x", "of": "both", "for": "1s"}},
                ),
                ('dst.tagged("x") and not flow.from_client', {"action": "block"}),
            ]
        )
    ],
    ("b.packet", "tcp", "packet", "u8(0) == 1 or u8(0) == 0", {"action": "log"}),
)


@st.composite
def traffic(draw: st.DrawFn) -> list[bytes]:
    choice = st.one_of(
        mutated(),
        datagrams().map(lambda built: built.datagram),
        st.binary(max_size=60),
        st.builds(
            udp,
            st.sampled_from(["10.0.0.1", "10.0.0.2"]),
            st.integers(1, 2),
            st.sampled_from(["10.0.0.1", "10.0.0.2"]),
            st.integers(1, 2),
            st.binary(max_size=300),
        ),
    )
    return draw(st.lists(choice, max_size=30))


@given(traffic(), st.floats(0, 5))
def test_no_bytes_make_it_raise(packets: list[bytes], step_s: float) -> None:
    inspector = Inspector(EVERYTHING, max_flows=6)
    for number, packet in enumerate(packets):
        inspector.inspect(packet, number * step_s)
        assert inspector.flows <= 12


segments = st.tuples(
    st.booleans(),
    st.sampled_from([0, ACK, SYN, SYN | ACK]),
    st.integers(-3000, 3000),
    st.integers(0, 3000),
    st.integers(0, 3000),
)


@given(st.lists(segments, max_size=60))
def test_no_segments_make_it_raise_or_grow(steps: list[tuple[bool, int, int, int, int]]) -> None:
    inspector = Inspector(EVERYTHING)
    for client, flags, offset, captured, more in steps:
        packet = Packet(
            TCP,
            THERE if client else BACK,
            random.Random(captured).randbytes(captured),
            captured + more * (offset % 2),
            offset % SPACE,
            flags,
        )
        inspector.judge(packet, 0)
        turns = inspector._tcp.side(THERE).flow.turns
        if turns is not None:
            assert not turns.over
            assert sum(len(turns.head(n)) for n in range(MAX_TURNS)) <= TURNS_WITH_BYTES * HEAD_B


# --- how long a flow is followed


def test_a_flow_is_let_go_when_nothing_can_match_any_more() -> None:
    inspector = Inspector(following("turn(0).u8(1) == 1 and turn(1).size > 3"))
    connection = Connection(inspector)
    connection.send(True, 0, b"\0")
    assert connection.turns is not None
    connection.send(True, 1, b"\0")
    assert connection.turns is None
    inspector.judge(datagram(b"\0\0"), 0)
    assert inspector._udp.side(THERE).flow.turns is None


@pytest.mark.parametrize(("first", "followed"), [(b"\1", True), (b"\2", False)])
def test_a_flow_that_begins_otherwise_is_not_followed(first: bytes, followed: bool) -> None:
    inspector = Inspector(following("turn(0).u8(0) == 1 and turn(1).size > 3"))
    inspector.inspect(udp("10.0.0.1", 1, "10.0.0.2", 2, first), 0)
    connection = Connection(inspector)
    connection.send(True, 0, first)
    (side,) = inspector._udp._young.values()
    assert (side.flow.turns is not None) is followed
    assert (connection.turns is not None) is followed


def test_one_signature_is_let_go_while_another_waits() -> None:
    waits = ("turn(0).u8(0) == 1", "turn(2).size == 1")
    inspector = Inspector(
        rules(*[(f"a.n{n}", "tcp", "flow", when, BLOCK) for n, when in enumerate(waits)])
    )
    connection = Connection(inspector)
    connection.send(True, 0, b"\2")
    assert connection.turns is not None
    assert [rule.id for rule in connection.turns.rules] == ["a.n1"]
    connection.send(False, 0, b"x")
    assert connection.send(True, 1, b"x") == ["a.n1"]


def test_after_a_reload_the_new_signatures_are_asked() -> None:
    inspector = Inspector(following("turn(1).size == 3"))
    connection = Connection(inspector)
    connection.send(True, 0, b"abc")
    inspector.ruleset = rules(("b.tcp", "tcp", "flow", "turn(1).size == 1", BLOCK))
    assert connection.send(False, 0, b"x") == ["b.tcp"]


def test_a_replaced_ruleset_is_not_kept_by_an_idle_flow() -> None:
    inspector = Inspector(following("turn(1).size == 3"))
    Connection(inspector).send(True, 0, b"abc")
    bank = weakref.ref(inspector.ruleset.tcp_flow)
    inspector.ruleset = following("turn(1).size == 1")
    gc.collect()
    assert bank() is None


def test_a_flow_counts_once_for_a_threshold() -> None:
    then = {"action": "drop", "threshold": {"count": 2, "per": "src", "within": "1m"}}
    inspector = Inspector(rules(("a.b", "udp", "flow", "turn(0).size > 0", then)))
    for port, found in ((1, 0), (2, 1)):
        key = CLIENT + SERVER + bytes([0, port, 0, 1])
        detections = [len(inspector.judge(datagram(b"x", key), 0).detections) for _ in range(3)]
        assert sum(detections) == found


def test_the_ends_of_packets_are_those_of_what_has_come_in_order() -> None:
    connection = Connection(Inspector(following("turn(1).size == 9")))
    connection.send(True, 0, b"abc")
    connection.send(True, 0, b"abc")  # again
    connection.send(True, 5, b"fg")  # ahead
    connection.send(True, 3, b"de")
    turns = connection.turns
    assert turns is not None
    assert [n for n in range(9) if turns.ends_at(0, n)] == [3, 7]
