"""Every way to find and fetch a torrent works without the blocker, and none with it."""

from __future__ import annotations

import pytest

from tests.lab.conftest import TrialOutcome
from tools.lab.cases import CASES

pytestmark = [
    pytest.mark.lab,
    # The first test waits for all trials.
    pytest.mark.timeout(900),
]


@pytest.mark.parametrize("blocked", [False], ids=["without"])
@pytest.mark.parametrize("name", CASES)
def test_completes_without_the_blocker(
    trial_outcome: TrialOutcome, name: str, blocked: bool
) -> None:
    outcome = trial_outcome(name, blocked)
    assert outcome.bytes == outcome.size
    if CASES[name].discovery in ("dial", "dialled"):
        assert not outcome.learned, "something was discovered that the case does not name"
    else:
        assert outcome.learned is None or outcome.learned > 0


@pytest.mark.parametrize("blocked", [True], ids=["with"])
@pytest.mark.parametrize("name", CASES)
def test_moves_nothing_with_the_blocker(
    trial_outcome: TrialOutcome, name: str, blocked: bool
) -> None:
    outcome = trial_outcome(name, blocked)
    assert outcome.bytes == 0
    assert outcome.seconds >= 30
    assert outcome.report is not None
    assert outcome.report.detections, "nothing was blocked: the case did not test the blocker"
    assert not outcome.learned, "a tracker or DHT node got through to the client"
