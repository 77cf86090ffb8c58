from __future__ import annotations

import pytest

from engine.inspect import threshold as module
from engine.inspect.threshold import ThresholdCounter
from engine.language.form import Threshold


def threshold(count: int, within_s: int) -> Threshold:
    return Threshold.model_validate({"count": count, "per": "src", "within": f"{within_s}s"})


@pytest.mark.parametrize(
    ("count", "times", "reached"),
    [
        (2, [0, 1], [False, True]),
        (2, [0, 10], [False, True]),
        (2, [0, 10.5, 11], [False, False, True]),
        (2, [0, 1, 2, 30, 31], [False, True, True, False, True]),
        (3, [0, 1, 2], [False, False, True]),
        (3, [0, 9, 11, 12], [False, False, False, True]),
    ],
)
def test_counts_within_the_window(count: int, times: list[float], reached: list[bool]) -> None:
    counter = ThresholdCounter()
    rule = threshold(count, 10)
    assert [counter.reached("a.b", b"host", rule, now_s) for now_s in times] == reached


def test_hosts_and_signatures_are_counted_apart() -> None:
    counter, rule = ThresholdCounter(), threshold(2, 10)
    pairs = [("a.b", b"x"), ("a.b", b"y"), ("a.c", b"x")]
    assert [counter.reached(*pair, rule, 0) for pair in pairs] == [False] * 3
    assert [counter.reached(*pair, rule, 1) for pair in pairs] == [True] * 3


@pytest.mark.parametrize(
    ("before", "after", "reached"),
    [(2, 4, [False, True]), (4, 2, [True, True]), (5, 3, [True, True])],
)
def test_a_reload_may_change_the_count(before: int, after: int, reached: list[bool]) -> None:
    counter = ThresholdCounter()
    for now_s in (0, 1, 2):
        counter.reached("a.b", b"x", threshold(before, 100), now_s)
    rule = threshold(after, 100)
    assert [counter.reached("a.b", b"x", rule, now_s) for now_s in (3, 4)] == reached


def test_who_waited_longest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_COUNTED", 3)
    counter, rule = ThresholdCounter(), threshold(2, 100)
    for host in (b"a", b"b", b"c", b"d"):
        assert not counter.reached("a.b", host, rule, 0)
    assert counter.reached("a.b", b"b", rule, 1)
    assert not counter.reached("a.b", b"a", rule, 1)
