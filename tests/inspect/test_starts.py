"""Versions of the same bytes, later requests, and the ends of patience and memory."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.inspect.inspector import Inspector, Verdict
from engine.inspect.starts import MAX_ELSEWHERE, MAX_VERSIONS, MIDDLE_SEGMENTS, PATIENCE, Starts
from engine.inspect.stream import PREFIX_B
from tests.inspect.flows import BLOCK, THERE, Connection, answer, rules, segment

HELLO = b"hello greeting of twenty bytes"
HELLO_ONLY = rules(
    (
        "a.hello",
        "tcp",
        "stream",
        "u64(0) == 0x68656c6c6f206772 and u64(8) == 0x656574696e67206f",
        BLOCK,
    )
)


def found(*segments: tuple[int, bytes]) -> bool:
    """Whether the greeting is found at the beginning of what the client sends."""
    connection = Connection(Inspector(HELLO_ONLY))
    return any(connection.send(True, offset, data) for offset, data in segments)


JUNK = bytes(3000)


@pytest.mark.parametrize(
    "segments",
    [
        [(0, JUNK[:30]), (0, HELLO)],
        [(0, HELLO[:3] + JUNK[:5]), (3, HELLO[3:])],
        [(4, JUNK[:10]), (4, HELLO[4:]), (0, HELLO[:4])],
        [(4, HELLO[4:]), (4, JUNK[:10]), (0, HELLO[:4])],
        [(0, JUNK[:30]), (0, HELLO[:4]), (4, HELLO[4:])],
        [(0, JUNK[:30]), (4, HELLO[4:]), (0, HELLO[:4])],
        # One version is right here, the other there.
        [(0, HELLO[:8]), (8, JUNK[:8]), (0, JUNK[:8]), (8, HELLO[8:])],
        [(0, HELLO[:5]), (5, JUNK[:5]), (5, HELLO[5:10]), (10, JUNK[:10]), (10, HELLO[10:])],
        # After all that is kept has been looked at and forgotten.
        [(0, JUNK), (0, HELLO)],
        [(0, JUNK), (0, HELLO[:4]), (4, HELLO[4:])],
        [(0, JUNK), (4, HELLO[4:]), (0, HELLO[:4])],
        [(0, JUNK), (3000, JUNK), (6000, JUNK), (0, HELLO[:9] + JUNK[:9]), (9, HELLO[9:])],
    ],
)
def test_another_version_of_the_same_bytes_is_found(segments: list[tuple[int, bytes]]) -> None:
    assert found(*segments)
    # And where the truth comes first, what follows does not hide it.
    assert found((0, HELLO), *segments)


@given(st.integers(0, 2**32 - 1), st.lists(st.booleans(), min_size=1, max_size=6))
def test_whichever_version_of_a_piece_the_receiver_takes(first: int, truths: list[bool]) -> None:
    """Of a few pieces sent twice, one version is true: the first or the second."""
    edges = [i * 16 // len(truths) for i in range(len(truths) + 1)]
    starts = Starts(first)
    prefixes: list[bytes] = []
    for (a, b), true_first in zip(itertools.pairwise(edges), truths, strict=True):
        true, lie = HELLO[a:b], JUNK[a:b]
        for data in (true, lie) if true_first else (lie, true):
            changed = starts.take(first + a, data, len(data))
            prefixes += [start.prefix for start in changed]
            starts.settle()
    # Two versions of two pieces make four streams.
    if len(truths) <= 2:
        assert HELLO[:16] in prefixes
    assert len(starts.others) <= MAX_ELSEWHERE + MAX_VERSIONS


def test_bytes_that_come_again_unchanged_are_no_version() -> None:
    starts = Starts(100)
    rng = random.Random(5)
    for _ in range(200):
        a, b = sorted(rng.choices(range(len(HELLO) + 1), k=2))
        starts.take(100 + a, HELLO[a:b], b - a)
        assert starts.others == ()


@given(
    st.lists(
        st.tuples(st.integers(-100, PREFIX_B + 100), st.binary(min_size=1, max_size=30)),
        max_size=60,
    ),
    st.integers(0, 3),
)
def test_no_segments_make_it_raise_or_grow(segments: list[tuple[int, bytes]], middle: int) -> None:
    starts = Starts(50, middle=middle)
    for number, (offset, data) in enumerate(segments):
        if number % 7 == 3:
            starts.may_begin(offset)
        if starts.tells((50 + offset) % 2**32, data, 0):
            starts.take((50 + offset) % 2**32, data, len(data) + number % 2)
            starts.settle()
        assert len(starts.others) <= MAX_ELSEWHERE + MAX_VERSIONS
        for start in (starts, *starts.others):
            assert len(start.prefix) + start._waits.bit_count() // 8 <= PREFIX_B


def test_other_starts_are_waited_for_only_so_long() -> None:
    starts = Starts(100)
    starts.take(100, JUNK, len(JUNK))
    starts.settle()
    assert not starts.tells(100 + PREFIX_B, JUNK, 0)
    starts.may_begin(900_000)
    for number in range(PATIENCE):
        sequence = 100 + PREFIX_B + number
        assert starts.tells(sequence, JUNK, 0)
        starts.take(sequence, b"x", 1)
        starts.settle()
    assert not starts.tells(100 + PREFIX_B, JUNK, 0)
    assert not starts.expects(900_000)


# --- requests on a connection that lasts


ANNOUNCE_SIGN = "u64(0) == 0x474554202f616e6e"
LATER = rules(("a.announce", "tcp", "stream", ANNOUNCE_SIGN, {"action": "drop"}))
ANNOUNCE = b"GET /announce HTTP/1.1\r\n\r\n"
GET = b"GET /index.html HTTP/1.1\r\n\r\n"


@pytest.mark.parametrize("between", [0, 3, 200])
@pytest.mark.parametrize("first", [GET, b"HEAD / HTTP/1.1\r\n\r\n"])
def test_a_later_request_on_the_same_connection_is_inspected(first: bytes, between: int) -> None:
    connection = Connection(Inspector(LATER))
    offset = 0
    for request in (first, *[GET] * between):
        assert connection.send(True, offset, request) == []
        offset += len(request)
    assert connection.send(True, offset, ANNOUNCE[:15]) == ["a.announce"]


def test_a_later_request_may_come_in_several_segments() -> None:
    whole = rules(("a.tail", "tcp", "stream", f"{ANNOUNCE_SIGN} and u16(20) == 0x2e31", BLOCK))
    connection = Connection(Inspector(whole))
    assert connection.send(True, 0, GET) == []
    assert connection.send(True, len(GET), ANNOUNCE[:15]) == []
    assert connection.send(True, len(GET) + 15, ANNOUNCE[15:]) == ["a.tail"]


def test_a_request_in_anything_else_is_none() -> None:
    connection = Connection(Inspector(LATER))
    assert connection.send(True, 0, b"220 a mail server\r\n") == []
    assert connection.send(True, 19, ANNOUNCE) == []


@pytest.mark.parametrize(("first", "tells"), [(GET, True), (b"POST /form HTTP/1.1\r\n\r\n", False)])
def test_what_cannot_be_a_request_is_soon_left_alone(first: bytes, tells: bool) -> None:
    connection = Connection(Inspector(LATER))
    connection.send(True, 0, first + JUNK)
    starts = connection.inspector._tcp.side(THERE).starts
    assert starts is not None
    assert not starts.tells(1000 + 4000, JUNK, 0)
    assert starts.tells(1000 + 4000, ANNOUNCE, 0) is tells


# --- connections whose beginning was not seen


MIDDLE = rules(("a.middle", "tcp", "middle", "u32(0) == 0x01020304", {"action": "drop"}))
TELLING = bytes([1, 2, 3, 4])


@pytest.mark.parametrize("before", [0, 1, MIDDLE_SEGMENTS - 1, MIDDLE_SEGMENTS])
def test_segments_are_inspected_by_themselves_in_the_middle_for_a_while(before: int) -> None:
    inspector = Inspector(MIDDLE)
    for number in range(before):
        inspector.judge(segment(JUNK[:1000], 5000 + 1000 * number), 0)
    last = inspector.judge(segment(TELLING, 5000 + 1000 * before), 0)
    assert (last.verdict is Verdict.DROP) is (before < MIDDLE_SEGMENTS)


@pytest.mark.parametrize("seen", ["both", "syn", "answer"])
def test_nothing_of_a_connection_whose_beginning_was_seen_is_in_the_middle(seen: str) -> None:
    inspector = Inspector(MIDDLE)
    if seen != "answer":
        inspector.judge(segment(b"", 999, THERE, 2), 0)
    if seen != "syn":
        inspector.judge(answer(1999, 1000), 0)
    assert inspector.judge(segment(TELLING, 1000), 0).verdict is Verdict.ACCEPT
    assert inspector.judge(segment(TELLING, 1004), 0).verdict is Verdict.ACCEPT
