"""Turns as the inspector tells them, against plain oracles."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from engine.fields.turns import MAX_TURNS, Turns
from engine.inspect.followed import NOT_BEGUN
from engine.inspect.inspector import Inspector
from engine.inspect.judgement import Verdict
from engine.inspect.packet import ACK, TCP, Packet
from engine.inspect.stream import PREFIX_B
from tests.inspect.flows import (
    BACK,
    BLOCK,
    SPACE,
    THERE,
    Connection,
    answer,
    datagram,
    following,
    rules,
    runs,
    segment,
    told,
)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[list[bytes], list[tuple[bool, int, int]]]:
    """What each side sends, and segments of it (from the client, start, end) in any order."""
    # Nothing that a proxy could be asked with: that is no turn.
    sent = [b"x" + draw(st.binary(max_size=400)) for _ in range(2)]
    segments = []
    for client, data in zip((True, False), sent, strict=True):
        cuts = draw(st.lists(st.integers(0, len(data)), max_size=8))
        edges = [0, *sorted(cuts), len(data)]
        segments += [(client, a, b) for a, b in itertools.pairwise(edges)]
        overlapping = st.tuples(st.integers(0, len(data)), st.integers(0, len(data))).map(sorted)
        again = draw(st.lists(overlapping, max_size=7))
        segments += [(client, a, b) for a, b in again]
    return sent, draw(st.permutations(segments))


@given(conversations(), st.integers(0, SPACE - 1), st.integers(0, SPACE - 1))
def test_turns_of_tcp_are_what_has_come_in_order(
    conversation: tuple[list[bytes], list[tuple[bool, int, int]]], there: int, back: int
) -> None:
    sent, segments = conversation
    connection = Connection(Inspector(following()), (there, back))
    seen: list[set[int]] = [set(), set()]
    counted = [0, 0]
    events: list[tuple[bool, bytes]] = []
    begun = False
    for client, start, end in segments:
        side = 0 if client else 1
        connection.send(client, start, sent[side][start:end])
        begun = begun or end > start
        seen[side].update(range(start, end))
        in_order = next(n for n in itertools.count() if n not in seen[side])
        if in_order > counted[side]:
            events.append((client, sent[side][counted[side] : in_order]))
            counted[side] = in_order
        expected = runs(events)
        if len(expected) > MAX_TURNS:
            assert connection.turns is None
            return
        assert connection.turns is not None
        assert told(connection.turns) == expected
        assert (connection.turns is not NOT_BEGUN) is begun


@given(st.lists(st.tuples(st.booleans(), st.binary(min_size=1, max_size=50)), max_size=12))
def test_turns_are_the_same_one_byte_at_a_time(said: list[tuple[bool, bytes]]) -> None:
    connection = Connection(Inspector(following()))
    offsets = {True: 0, False: 0}
    for client, data in said:
        for number, byte in enumerate(data):
            connection.send(client, offsets[client] + number, bytes([byte]))
        offsets[client] += len(data)
    expected = runs(said)
    if len(expected) <= MAX_TURNS:
        assert told(connection.turns or Turns()) == expected
    else:
        assert connection.turns is None


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=60)), max_size=12))
def test_turns_of_udp_are_the_datagrams_of_one_side(said: list[tuple[bool, bytes]]) -> None:
    inspector = Inspector(following())
    for client, data in said:
        inspector.judge(datagram(data, THERE if client else BACK), 0)
    said = [(client, data) for client, data in said if data]
    # Whoever is seen first has opened the flow.
    expected = runs(said)
    turns = inspector._udp.side(THERE).flow.turns
    if len(expected) <= MAX_TURNS:
        assert [(size, head) for _, size, head in told(turns or Turns())] == [
            (size, head) for _, size, head in expected
        ]
    else:
        assert turns is None


def test_beyond_the_start_of_a_stream_nothing_is_waited_for() -> None:
    connection = Connection(Inspector(following()))
    connection.send(True, 0, bytes(PREFIX_B + 10))
    connection.send(True, PREFIX_B + 500, bytes(100))  # 490 bytes are missing
    assert connection.turns is not None
    assert connection.turns.size(0) == PREFIX_B + 600
    connection.send(True, PREFIX_B + 10, bytes(490))
    assert connection.turns.size(0) == PREFIX_B + 600


def test_bytes_that_were_not_captured_count() -> None:
    connection = Connection(Inspector(following()))
    connection.inspector.judge(Packet(TCP, THERE, bytes(50), 700, 1000, ACK), 0)
    connection.send(False, 0, b"x")
    connection.send(True, 700, b"abc")
    assert connection.turns is not None
    assert [connection.turns.size(n) for n in range(3)] == [700, 1, 3]


def test_turns_of_a_connection_that_began_before_are_not_told() -> None:
    inspector = Inspector(following("turn(0).size > 0"))
    for number, key in enumerate((THERE, BACK, THERE)):
        assert inspector.judge(segment(b"abc", 100 + 3 * number, key), 0).verdict is Verdict.ACCEPT
    assert inspector._tcp.side(THERE).flow.turns is None


def test_a_syn_ack_tells_who_opened() -> None:
    inspector = Inspector(following("turn(0).from_client and not flow.from_client"))
    inspector.judge(answer(99, 1), 0)
    assert inspector.judge(segment(b"abc", 1), 0).verdict is Verdict.ACCEPT
    assert inspector.judge(segment(b"abc", 100, BACK), 0).verdict is Verdict.DROP


def test_who_opened_is_unknown_where_it_was_not_seen() -> None:
    for when in ("flow.from_client", "not flow.from_client"):
        inspector = Inspector(rules(("a.b", "tcp", "packet", f"u8(0) == 1 and {when}", BLOCK)))
        for key in (THERE, BACK):
            assert inspector.judge(segment(b"\1", 5, key), 0).verdict is Verdict.ACCEPT
