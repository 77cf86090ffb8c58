"""Other people's traffic through the same router, while BitTorrent is being blocked there."""

from __future__ import annotations

import pytest

from tools.lab.ordinary import SERVICES
from tools.lab.trial import Result

pytestmark = [
    pytest.mark.lab,
    # The first test waits for all trials.
    pytest.mark.timeout(900),
]


def test_something_was_blocked_meanwhile(ordinary_result: Result) -> None:
    blocked = {outcome.case for outcome in ordinary_result.outcomes if outcome.detections}
    assert blocked == {outcome.case for outcome in ordinary_result.outcomes}


def test_everything_arrives_whole(ordinary_result: Result) -> None:
    assert {usage.service for usage in ordinary_result.ordinary} == set(SERVICES)
    for usage in ordinary_result.ordinary:
        assert usage.failures == 0, f"{usage.service}: {usage.error}"
        assert usage.uses > 1, f"{usage.service} was hardly used"


def test_nobody_is_accused(ordinary_result: Result) -> None:
    assert ordinary_result.accused == []
