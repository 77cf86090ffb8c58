from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from engine.inspect.inspector import Detection
from engine.inspect.packet import Endpoint
from engine.language.form import Action
from engine.service.events import Events

SOURCE, DESTINATION = Endpoint(bytes([10, 0, 0, 1]), 1), Endpoint(bytes([10, 0, 0, 2]), 2)


def detection(action: Action) -> Detection:
    return Detection("a.b", 1, action, "udp", SOURCE, DESTINATION, 3, 2)


@pytest.mark.parametrize("monitor_only", [False, True])
@pytest.mark.parametrize(
    ("action", "level", "enforced", "monitored"),
    [
        ("block", logging.INFO, "dropped, banned 10.0.0.1", "not enforced"),
        ("drop", logging.INFO, "dropped", "not enforced"),
        ("log", logging.INFO, "only logged", "only logged"),
        ("tag", logging.DEBUG, "tagged", "tagged"),
    ],
)
def test_how_loudly_a_detection_is_told(
    action: Action,
    level: int,
    enforced: str,
    monitored: str,
    monitor_only: bool,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = tmp_path / "detections.json"
    events = Events(log, monitor_only=monitor_only)
    banned = ["10.0.0.1"] if action == "block" and not monitor_only else []
    with caplog.at_level(logging.DEBUG):
        events.detected(detection(action), banned)
    events.close()
    (record,) = caplog.records
    assert record.levelno == level
    assert (monitored if monitor_only else enforced) in record.getMessage()
    assert events.by_signature == {"a.b": 1}
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["action"] for line in lines] == ([] if action == "tag" else [action])


def test_what_is_told_again_is_counted_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = tmp_path / "detections.json"
    events = Events(log, monitor_only=False)
    again = replace(detection("block"), repeated=True)
    with caplog.at_level(logging.INFO):
        events.detected(detection("block"), [])
        events.detected(again, ["10.0.0.1"])
    events.close()
    assert events.by_signature.total() == 1
    assert caplog.messages[0].endswith("dropped")
    assert caplog.messages[1].endswith("dropped, banned 10.0.0.1")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["repeated"] for line in lines] == [False, True]


@pytest.mark.parametrize("tunnelled", [False, True])
def test_a_tunnel_is_told(
    tunnelled: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = tmp_path / "detections.json"
    events = Events(log, monitor_only=False)
    with caplog.at_level(logging.INFO):
        events.detected(replace(detection("block"), tunnelled=tunnelled), [])
    events.close()
    assert ("10.0.0.2:2 inside a tunnel, packet 3" in caplog.text) is tunnelled
    assert json.loads(log.read_text())["tunnelled"] is tunnelled
