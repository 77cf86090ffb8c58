from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.inspect.stream import MAX_PENDING, PREFIX_B, StreamStart

SPACE = 1 << 32
starts = st.one_of(st.integers(0, SPACE - 1), st.integers(SPACE - PREFIX_B, SPACE - 1))


def held(stream: StreamStart) -> int:
    return len(stream.prefix) + sum(map(len, stream._pending.values()))


@st.composite
def transfers(draw: st.DrawFn) -> tuple[bytes, list[tuple[int, int]]]:
    """A byte string, and segments (start, end) that cover it, in any order, some twice."""
    data = draw(st.binary(min_size=1, max_size=200)) * draw(st.sampled_from([1, 1, 20]))
    cuts = draw(st.lists(st.integers(0, len(data)), max_size=MAX_PENDING))
    edges = [0, *sorted(cuts), len(data)]
    segments = list(itertools.pairwise(edges))
    overlapping = st.tuples(st.integers(0, len(data)), st.integers(0, len(data))).map(sorted)
    # Few enough that what waits never has to be refused.
    room = MAX_PENDING - len(cuts)
    again = draw(st.lists(overlapping, max_size=room))
    return data, draw(st.permutations(segments + [(a, b) for a, b in again]))


@given(starts, transfers())
def test_any_order_gives_the_same_prefix(
    first: int, transfer: tuple[bytes, list[tuple[int, int]]]
) -> None:
    data, segments = transfer
    stream = StreamStart(first)
    for start, end in segments:
        before = stream.prefix
        grew = stream.add((first + start) % SPACE, data[start:end])
        assert grew == (stream.prefix != before)
        assert stream.prefix == data[: len(stream.prefix)]
        assert held(stream) <= PREFIX_B
    assert stream.prefix == data[:PREFIX_B]
    assert stream.complete == (len(data) >= PREFIX_B)


@given(
    starts,
    st.lists(st.tuples(st.integers(-3000, 3000), st.binary(max_size=40)), max_size=80),
)
def test_memory_is_bounded_whatever_comes(first: int, segments: list[tuple[int, bytes]]) -> None:
    stream = StreamStart(first)
    for offset, data in segments:
        stream.add((first + offset) % SPACE, data * 50)
        assert held(stream) <= PREFIX_B
        assert len(stream._pending) <= MAX_PENDING


def fed(*segments: tuple[int, bytes]) -> bytes:
    stream = StreamStart(100)
    for sequence, data in segments:
        stream.add(sequence, data)
    return stream.prefix


@pytest.mark.parametrize(
    ("segments", "prefix"),
    [
        ([(100, b"abc"), (103, b"def")], b"abcdef"),
        ([(103, b"def"), (100, b"abc")], b"abcdef"),
        ([(100, b"abc"), (104, b"xyz")], b"abc"),
        ([(100, b"abc"), (100, b"ABCDE")], b"abcDE"),
        ([(102, b"cd"), (101, b"BCDE"), (100, b"a")], b"aBcdE"),
        ([(103, b"d"), (103, b"Def"), (100, b"abc")], b"abcdef"),
        ([(99, b"-a"), (98, b"--"), (101, b"b")], b"ab"),
        ([(97, b"---abc")], b"abc"),
        ([(100, b""), (100 + PREFIX_B, b"far")], b""),
    ],
    ids=[
        "in order",
        "reversed",
        "hole",
        "what came first stands",
        "what waited first stands",
        "longer retransmission of what waits",
        "starts before",
        "starts well before",
        "empty and too far",
    ],
)
def test_segments(segments: list[tuple[int, bytes]], prefix: bytes) -> None:
    assert fed(*segments) == prefix


def test_reordering_may_go_on_for_the_whole_stream() -> None:
    pairs = [(i + 1, i) for i in range(0, 10 * MAX_PENDING, 2)]
    assert fed(*[(100 + i, bytes([i])) for pair in pairs for i in pair]) == bytes(
        range(10 * MAX_PENDING)
    )
