from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.inspect.flow import FlowTable
from engine.inspect.packet import reverse
from engine.inspect.starts import Starts


def key(number: int) -> bytes:
    """A to B, by port."""
    return b"\x0a\0\0\x01\x0a\0\0\x02" + number.to_bytes(2, "big") + b"\0\x35"


def test_both_directions_are_one_flow_with_two_sides() -> None:
    table = FlowTable()
    there, back = table.side(key(1)), table.side(reverse(key(1)))
    assert there.flow is back.flow
    assert there is not back
    assert table.side(key(1)) is there
    assert table.side(reverse(key(1))) is back
    assert table.side(key(2)).flow is not there.flow


def test_start_forgets_both_directions() -> None:
    table = FlowTable(8)
    old = table.side(key(1)).flow
    table.side(reverse(key(1)))
    new = table.start(key(1))
    assert new.flow is not old
    assert table.side(reverse(key(1))).flow is new.flow
    assert len(table) == 2


@pytest.mark.parametrize("max_flows", [1, 2, 3, 10])
def test_only_so_many_are_remembered(max_flows: int) -> None:
    table = FlowTable(max_flows)
    for number in range(100):
        table.side(key(number))
        assert len(table) <= max(2, max_flows)


def test_what_is_used_is_not_forgotten() -> None:
    table = FlowTable(10)
    flow = table.side(key(0)).flow
    for number in range(1, 100):
        table.side(key(number))
        assert table.side(key(0)).flow is flow


def test_one_busy_direction_keeps_the_flow_for_the_other() -> None:
    table = FlowTable(10)
    flow = table.side(key(0)).flow
    for number in range(1, 100):
        table.side(key(number))
        table.side(key(0))
    assert table.side(reverse(key(0))).flow is flow


def test_what_is_idle_is_forgotten() -> None:
    table = FlowTable(10)
    flow = table.side(key(0)).flow
    for number in range(1, 11):
        table.side(key(number))
    assert table.side(key(0)).flow is not flow


@given(st.lists(st.tuples(st.integers(0, 12), st.booleans(), st.booleans()), max_size=200))
def test_the_two_directions_never_part(steps: list[tuple[int, bool, bool]]) -> None:
    table = FlowTable(8)
    for number, backwards, start in steps:
        one = reverse(key(number)) if backwards else key(number)
        side = table.start(one) if start else table.side(one)
        assert table.side(reverse(one)).flow is side.flow
        assert table.side(one).flow is side.flow
        assert len(table) <= 8


def test_what_sides_hold_is_bounded_together() -> None:
    def hold(number: int, held_b: int) -> None:
        side = table.side(key(number))
        starts = side.starts = side.awake() or Starts(0)
        table.hold(starts, held_b)

    table = FlowTable(1000, max_held_b=100)
    for number in range(60):
        hold(number, 10)
        # Two generations, and in each the one that was too much.
        assert len(table) <= 12
    assert len(table) == 6
    # One that grows and one that lets go are counted for the difference.
    table = FlowTable(1000, max_held_b=100)
    for held_b in (10, 40, 5, 45, 0, 50):
        hold(1, held_b)
    assert len(table) == 1
    for number in range(2, 60):
        table.side(key(number))
    assert len(table) == 59, "what holds nothing takes nobody's place"
