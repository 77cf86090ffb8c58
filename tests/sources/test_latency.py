from __future__ import annotations

from engine.sources.latency import BOUNDS_S, Latency


def test_each_duration_is_in_the_first_bucket_that_holds_it() -> None:
    latency = Latency()
    for duration_s in (BOUNDS_S[0], BOUNDS_S[0] * 1.01, 10.0):
        latency.observe(duration_s)
    assert (latency.counts[0], latency.counts[1], latency.counts[-1]) == (1, 1, 1)
    assert sum(latency.counts) == 3


def test_two_add_up() -> None:
    one, other = Latency(), Latency()
    one.observe(0.001)
    other.observe(0.002)
    both = one + other
    assert sum(both.counts) == 2
    assert both.sum_s == one.sum_s + other.sum_s
    assert sum(one.counts) == 1
