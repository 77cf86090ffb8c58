from __future__ import annotations

from typing import Any

import pytest

from engine.config import Settings
from engine.service.events import Events
from engine.service.losses import Losses
from engine.service.messages import Counters
from engine.sources.nfqueue import QUEUE_LENGTH, KernelCounters


@pytest.fixture
def events() -> Events:
    return Events(Settings())


def kernel(**changed: Any) -> list[KernelCounters]:
    return [KernelCounters(**({"waiting": 0, "queue_dropped": 0, "user_dropped": 0} | changed))]


def test_only_what_is_new_is_told(events: Events, caplog: pytest.LogCaptureFixture) -> None:
    losses = Losses(events, fail_open=True)
    losses.look(kernel(), Counters())
    assert not events.troubles
    losses.look(kernel(queue_dropped=3, user_dropped=4), Counters(errors=2, unreported=1))
    losses.look(kernel(queue_dropped=3, user_dropped=4), Counters(errors=2, unreported=1))
    assert events.troubles == {"packets-lost": 1, "packets-unjudged": 2}
    assert "7 packets were lost" in caplog.text
    losses.look(kernel(queue_dropped=1), Counters(errors=2, unreported=1))
    assert events.troubles["packets-lost"] == 1, "a new worker's queue counts anew"
    losses.look(kernel(queue_dropped=2), Counters(errors=2, unreported=1))
    assert events.troubles["packets-lost"] == 2


@pytest.mark.parametrize(
    ("fail_open", "said"), [(True, "no room passes uninspected"), (False, "no room is lost")]
)
def test_a_full_queue_is_told_once_and_when_it_is_over(
    events: Events, caplog: pytest.LogCaptureFixture, fail_open: bool, said: str
) -> None:
    losses = Losses(events, fail_open=fail_open)
    for waiting in (QUEUE_LENGTH, QUEUE_LENGTH, 0, 0):
        losses.look(kernel(waiting=waiting), Counters())
    assert events.troubles == {"packets-unjudged": 1}
    assert said in caplog.text
    assert caplog.text.count("no queue is full any longer") == 1
