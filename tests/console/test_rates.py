from __future__ import annotations

from typing import Any

import pytest

from engine.console.quantile import quantile_s
from engine.console.rates import rates
from engine.console.status import duration
from engine.service.status import Status
from engine.sources.latency import BOUNDS_S
from tests.service.statuses import STATUS, status


def later(**changed: Any) -> Status:
    return status(uptime_s=STATUS["uptime_s"] + 2, **changed)


def test_rates_are_differences_by_time() -> None:
    after = later(
        queue=STATUS["queue"] | {"packets": 1200, "dropped": 110, "queue_dropped": 31},
        xdp=STATUS["xdp"] | {"dropped_source": 25} if STATUS["xdp"] else None,
        detections=STATUS["detections"]
        | {"total": 17, "by_signature": {"a.b": 5, "c.d": 4, "e.f": 8}},
        bans=STATUS["bans"] | {"total": 10, "active": 7},
    )
    found = rates(status(), after)
    assert found.interval_s == 2
    assert (found.packets_per_s, found.dropped_per_s, found.lost_per_s) == (100, 5, 10)
    assert (found.xdp_passed_per_s, found.xdp_dropped_per_s) == (0, 2)
    assert (found.detections_per_s, found.bans_per_s, found.bans) == (5, 0.5, 7)
    assert [(s.id, s.total, s.per_s) for s in found.signatures] == [
        ("e.f", 8, 4.0),
        ("c.d", 4, 1.0),
        ("a.b", 5, 0.0),
    ]


def test_another_process_begins_at_nothing() -> None:
    found = rates(status(), status(pid=1, uptime_s=0.5))
    assert found.interval_s == 0.5
    assert found.packets_per_s == 2000


def test_what_goes_back_is_no_rate() -> None:
    """A worker was replaced and its queue counts anew."""
    found = rates(status(), later(queue=STATUS["queue"] | {"queue_dropped": 0, "packets": 5}))
    assert (found.packets_per_s, found.lost_per_s) == (0, 0)


def test_verdicts_are_those_of_the_interval() -> None:
    slower = [100, 800, 90, 9, 1, *[0] * (len(BOUNDS_S) - 4)]
    slower[6] += 10
    found = rates(status(), later(latency=STATUS["latency"] | {"counts": slower}))
    assert (found.verdict_p50_s, found.verdict_p99_s) == (BOUNDS_S[6], BOUNDS_S[6])
    idle = rates(status(), later())
    assert (idle.verdict_p50_s, idle.verdict_p99_s) == (None, None)


@pytest.mark.parametrize(
    ("share", "bucket"), [(0.0, 0), (0.1, 0), (0.5, 1), (0.9, 1), (0.99, 2), (0.999, 3), (1.0, 4)]
)
def test_quantiles(share: float, bucket: int) -> None:
    assert quantile_s(STATUS["latency"], share) == BOUNDS_S[bucket]


def test_what_took_longest_has_no_bound() -> None:
    counts = [1, *[0] * (len(BOUNDS_S) - 1), 9]
    assert quantile_s({"bounds_s": list(BOUNDS_S), "counts": counts, "sum_s": 1.0}, 0.5) is None


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.4, "0 s"),
        (59, "59 s"),
        (61, "1 min 1 s"),
        (3600, "1 h 0 min"),
        (90061, "1 d 1 h"),
    ],
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said
