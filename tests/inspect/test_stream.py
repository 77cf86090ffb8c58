from __future__ import annotations

import itertools
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.inspect.stream import PREFIX_B, StreamStart

SPACE = 1 << 32
starts = st.one_of(st.integers(0, SPACE - 1), st.integers(SPACE - PREFIX_B, SPACE - 1))


def waiting(stream: StreamStart) -> int:
    """Bytes that wait."""
    return stream._waits.bit_count() // 8


@st.composite
def transfers(draw: st.DrawFn) -> tuple[bytes, list[tuple[int, int]]]:
    """A byte string, and segments (start, end) that cover it, in any order, some twice."""
    data = draw(st.binary(min_size=1, max_size=200)) * draw(st.sampled_from([1, 1, 20]))
    cuts = draw(st.lists(st.integers(0, len(data)), max_size=40))
    edges = [0, *sorted(cuts), len(data)]
    segments = list(itertools.pairwise(edges))
    overlapping = st.tuples(st.integers(0, len(data)), st.integers(0, len(data))).map(sorted)
    again = draw(st.lists(overlapping, max_size=20))
    return data, draw(st.permutations(segments + [(a, b) for a, b in again]))


@given(starts, transfers())
def test_any_order_gives_the_same_prefix(
    first: int, transfer: tuple[bytes, list[tuple[int, int]]]
) -> None:
    data, segments = transfer
    stream = StreamStart(first)
    for start, end in segments:
        before = stream.prefix
        sequence, payload = (first + start) % SPACE, data[start:end]
        if stream.complete:
            break
        assert not stream.contradicted_by(sequence, payload)
        assert stream.continues(sequence) <= (start == len(stream.prefix))
        grew = stream.add(sequence, payload)
        assert grew == (stream.prefix != before)
        assert stream.prefix == data[: len(stream.prefix)]
        assert len(stream.prefix) + waiting(stream) <= PREFIX_B
    assert stream.prefix == data[:PREFIX_B]
    assert stream.complete == (len(data) >= PREFIX_B)


def put(model: dict[int, int], offset: int, data: bytes, *, over: bool) -> None:
    """What has come, by offset."""
    for place, byte in enumerate(data, offset):
        if 0 <= place < PREFIX_B and (over or place not in model):
            model[place] = byte


def in_order(model: dict[int, int]) -> bytes:
    return bytes(model[i] for i in itertools.takewhile(model.__contains__, itertools.count()))


segment = st.tuples(
    st.one_of(st.integers(-10, 60), st.integers(PREFIX_B - 50, PREFIX_B + 50)),
    st.binary(min_size=1, max_size=40),
)


@given(starts, st.lists(segment, max_size=20), segment)
def test_of_versions_the_first_stands_and_the_last_is_another_start(
    first: int, segments: list[tuple[int, bytes]], last: tuple[int, bytes]
) -> None:
    stream, model = StreamStart(first), dict[int, int]()
    for offset, data in segments:
        stream.add((first + offset) % SPACE, data)
        put(model, offset, data, over=False)
    assert stream.prefix == in_order(model)
    offset, data = last
    new = dict[int, int]()
    put(new, offset, data, over=True)
    contradicts = any(model.get(place, byte) != byte for place, byte in new.items())
    sequence = (first + offset) % SPACE
    assert stream.contradicted_by(sequence, data) == contradicts
    other = stream.overwritten_by(sequence, data)
    assert stream.prefix == in_order(model)
    assert other.prefix == in_order(model | new)
    assert waiting(other) == len(model | new) - len(other.prefix)
    assert other.same_as(stream) == (model | new == model)


@given(
    starts,
    st.lists(st.tuples(st.integers(-3000, 3000), st.binary(max_size=40)), max_size=80),
)
def test_memory_is_bounded_whatever_comes(first: int, segments: list[tuple[int, bytes]]) -> None:
    stream = StreamStart(first)
    for offset, data in segments:
        if not stream.complete:
            stream.add((first + offset) % SPACE, data * 50)
        assert len(stream.prefix) + waiting(stream) <= PREFIX_B
        assert max(stream._waiting.bit_length(), stream._waits.bit_length()) <= 8 * PREFIX_B


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


def test_the_last_byte_may_come_first_in_the_smallest_pieces() -> None:
    data = bytes(range(251)) * 9
    pieces = [(100 + i, data[i : i + 1]) for i in reversed(range(len(data)))]
    assert fed(*pieces) == data[:PREFIX_B]


def test_what_was_not_captured_never_comes() -> None:
    stream = StreamStart(100)
    stream.add(103, b"def", 10)
    assert not stream.complete
    assert stream.add(100, b"abc")
    assert stream.prefix == b"abcdef"
    stream = StreamStart(100)
    assert stream.add(100, b"abc", 10)
    assert stream.complete
    assert stream.prefix == b"abc"


@pytest.mark.parametrize("offset", [PREFIX_B, SPACE // 2 - 1, -SPACE // 2])
def test_what_is_far_beyond_takes_nothing(offset: int) -> None:
    stream = StreamStart(100)
    stream.add(102, b"waits")
    tracemalloc.start()
    try:
        assert not stream.contradicted_by((100 + offset) % SPACE, b"far")
        assert stream.overwritten_by((100 + offset) % SPACE, b"far").same_as(stream)
        assert not stream.add((100 + offset) % SPACE, b"far")
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
