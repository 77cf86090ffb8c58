"""A blocker that begins, or begins again, in the middle of transfers."""

from __future__ import annotations

import pytest

from tools.lab.trial import Result

pytestmark = [
    pytest.mark.lab,
    # The first test waits for all trials.
    pytest.mark.timeout(900),
]


def test_nothing_more_arrives_once_the_blocker_is_there(late_result: Result) -> None:
    assert [(each.case, each.error, each.bytes) for each in late_result.outcomes] == [
        (each.case, "", 0) for each in late_result.outcomes
    ]


def test_each_was_recognised_from_the_middle(late_result: Result) -> None:
    for outcome in late_result.outcomes:
        found = {detection.signature for detection in outcome.detections}
        # Handshakes are those of connections that came afterwards.
        assert found - {"bittorrent.peer.handshake", "bittorrent.utp.handshake"}, outcome.case
