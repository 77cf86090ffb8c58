from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from engine.fields.turns import HEAD_B, MAX_ENDS, MAX_FOLLOWED_B, MAX_TURNS, TURNS_WITH_BYTES, Turns

additions = st.lists(
    st.tuples(st.booleans(), st.binary(min_size=1, max_size=300), st.sampled_from([1, 1, 9])),
    max_size=40,
)


@given(additions)
def test_turns_are_the_runs_of_one_side(steps: list[tuple[bool, bytes, int]]) -> None:
    turns = Turns()
    taken: list[tuple[bool, bytes]] = []
    for from_client, data, times in steps:
        if not turns.over:
            taken.append((from_client, data * times))
        turns.add(from_client, len(data) * times, (data * times)[:HEAD_B])
    runs = [
        (side, b"".join(data for _, data in run))
        for side, run in itertools.groupby(taken, key=lambda step: step[0])
    ]
    kept = runs[:MAX_TURNS]
    assert turns.begun == len(runs) <= MAX_TURNS + 1
    assert [turns.size(n) for n in range(MAX_TURNS)] == [
        len(kept[n][1]) if n < len(kept) else None for n in range(MAX_TURNS)
    ]
    for n, (side, data) in enumerate(kept):
        assert turns.from_client(n) is side
        assert turns.complete(n) is (n + 1 < len(runs))
        assert turns.head(n) == (data[:HEAD_B] if n < TURNS_WITH_BYTES else b"")
    assert turns.total == sum(len(data) for _, data in kept)
    for side in (True, False):
        assert turns.sent(side) == sum(len(data) for whose, data in kept if whose is side)
    for n in range(MAX_TURNS):
        ends = taken_ends(taken)[n][:MAX_ENDS] if n < len(kept) else []
        assert [o for o in range(3000) if turns.ends_at(n, o)] == sorted(ends)
    assert turns.over is (len(runs) > MAX_TURNS or turns.total > MAX_FOLLOWED_B)


def taken_ends(taken: list[tuple[bool, bytes]]) -> list[list[int]]:
    """Where packets end, in bytes from the beginning of their turn."""
    turns = itertools.groupby(taken, key=lambda step: step[0])
    return [list(itertools.accumulate(len(data) for _, data in turn)) for _, turn in turns]


def test_the_ends_of_many_packets_are_not_kept() -> None:
    turns = Turns()
    for _ in range(MAX_ENDS + 5):
        turns.add(True, 1, b"x")
    assert [turns.ends_at(0, n) for n in (0, 1, MAX_ENDS, MAX_ENDS + 1)] == [
        *(False, True),
        *(True, False),
    ]


def test_a_turn_whose_first_bytes_are_unknown_has_none() -> None:
    turns = Turns()
    turns.add(True, 500, b"")
    assert (turns.size(0), turns.head(0)) == (500, b"")


def test_no_turn_has_begun() -> None:
    turns = Turns()
    assert (turns.size(0), turns.from_client(0), turns.complete(0)) == (None, None, False)
    assert (turns.total, turns.sent(True), turns.sent(False), turns.over) == (0, 0, 0, False)
