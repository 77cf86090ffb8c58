"""Every way to find and fetch a torrent works without the blocker, and none with it."""

from __future__ import annotations

import pytest

from tests.lab.conftest import OBSERVE_S, TrialOutcome
from tools.lab.cases import CASES, MODES, TESTED_CASES
from tools.lab.clients import CLIENTS

pytestmark = [
    pytest.mark.lab,
    # The first test waits for all trials.
    pytest.mark.timeout(900),
]


@pytest.mark.parametrize("blocked", [False], ids=["without"])
@pytest.mark.parametrize("name", TESTED_CASES)
def test_completes_without_the_blocker(
    trial_outcome: TrialOutcome, name: str, blocked: bool
) -> None:
    outcome = trial_outcome(name, blocked)
    assert outcome.bytes == outcome.size
    discovery = CASES[name].discovery
    if discovery in ("dial", "dialled", "web-seed", "http-seed"):
        assert not outcome.learned, "something was discovered that the case does not name"
    elif discovery not in ("lsd", "pex"):  # where the seed may hear of the downloader first
        assert outcome.learned is None or outcome.learned > 0


@pytest.mark.parametrize("blocked", [True], ids=["with"])
@pytest.mark.parametrize("name", TESTED_CASES)
def test_moves_nothing_with_the_blocker(
    trial_outcome: TrialOutcome, name: str, blocked: bool
) -> None:
    outcome = trial_outcome(name, blocked)
    assert outcome.bytes == 0
    assert outcome.seconds >= OBSERVE_S
    assert outcome.detections, "nothing was blocked: the case did not test the blocker"
    if CASES[name].discovery != "told":
        assert not outcome.learned, "a tracker, a DHT node or a peer got through to the client"


def test_each_client_has_each_mode_it_can_do() -> None:
    modes = {
        client: {CASES[name].mode for name in TESTED_CASES if CASES[name].downloader == client}
        for client in CLIENTS
    }
    encrypted_tcp = {"tcp", "mse", "any"}
    assert modes["libtorrent"] == set(MODES)
    assert modes["transmission"] == modes["qbittorrent"] == encrypted_tcp | {"utp", "utp-mse"}
    assert modes["aria2"] == modes["rtorrent"] == encrypted_tcp | {"mse-plain"}
