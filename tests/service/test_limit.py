from __future__ import annotations

from engine.service.limit import LineLimit

A, B = b"\x0a\0\0\1", b"\x0a\0\0\2"


def test_each_topic_and_source_has_its_own_share() -> None:
    limit = LineLimit(per_source=2, total=100)
    assert [limit.allows("x", A) for _ in range(3)] == [True, True, False]
    assert limit.allows("x", B)
    assert limit.allows("y", A)


def test_all_together_have_one() -> None:
    limit = LineLimit(per_source=2, total=3)
    told = [limit.allows("x", number.to_bytes(4, "big")) for number in range(5)]
    assert told == [True, True, True, False, False]


def test_a_new_window_begins_anew_and_tells_of_the_old_one() -> None:
    limit = LineLimit(per_source=1, total=2)
    for source in (A, A, B, B, B):
        limit.allows("x", source)
    assert limit.begin_window() == {"x": 3}
    assert limit.allows("x", A)
    assert limit.begin_window() == {}
