"""What streams hold that wait for gaps, or begin in several ways, is bounded together."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from engine.inspect.inspector import Inspector
from engine.inspect.packet import SYN, TCP, Packet
from engine.inspect.starts import Starts
from tests.inspect.flows import following

MAX_HELD_B = 200_000


# Sequence number, flags, payload.
_Said = tuple[int, int, bytes]


def _segments_ahead_of_gaps(sequence: int) -> list[_Said]:
    return [(sequence, 0, b"a"), (sequence + 1000, 0, b"b" * 1000)]


def _several_starts(sequence: int) -> list[_Said]:
    places = [sequence + n * 100_000 for n in range(4)]
    return [
        *((place, SYN, b"") for place in places),
        *((place + 1, 0, b"a" * 1000) for place in places),
    ]


def _several_versions(sequence: int) -> list[_Said]:
    return [(sequence, 0, bytes([n]) * 1000) for n in range(4)]


@pytest.mark.parametrize("said", [_segments_ahead_of_gaps, _several_versions, _several_starts])
def test_streams_hold_only_so_much(said: Callable[[int], list[_Said]]) -> None:
    inspector = Inspector(following(), max_held_b=MAX_HELD_B)
    for number in range(1000):
        key = bytes(4) + number.to_bytes(4, "big") + b"\0\1\0\2"
        for sequence, flags, payload in said(number):
            inspector.judge(Packet(TCP, key, payload, len(payload), sequence, flags), 0)
        if number % 97:
            continue
        sides = [*inspector._tcp._young.values(), *inspector._tcp._old.values()]
        held = [side.starts.held_b for side in sides if isinstance(side.starts, Starts)]
        assert held == [side.noted_b for side in sides]
        # In each of two generations one may have been too much.
        assert sum(held) <= MAX_HELD_B + 2 * max(held, default=0)
    assert sum(held) > MAX_HELD_B // 4


def test_what_is_in_order_holds_nothing() -> None:
    inspector = Inspector(following(), max_held_b=1)
    for number in range(1000):
        key = bytes(4) + number.to_bytes(4, "big") + b"\0\1\0\2"
        for sequence in (0, 10):
            inspector.judge(Packet(TCP, key, b"0123456789", 10, sequence, 0), 0)
    assert inspector.flows == 1000
