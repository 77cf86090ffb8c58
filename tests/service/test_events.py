"""What is told of facts, how often, and what becomes of logs that cannot be written."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.config import Settings
from engine.enforce.bans import Ban
from engine.errors import InputError
from engine.inspect.judgement import Detection
from engine.inspect.packet import Endpoint
from engine.language.form import Action
from engine.service.events import LATEST, Events
from tests.captures import udp
from tools.lab.program import wait_until

SOURCE, DESTINATION = Endpoint(bytes([10, 0, 0, 1]), 1), Endpoint(bytes([10, 0, 0, 2]), 2)
DATAGRAM = udp("10.0.0.1", 1, "10.0.0.2", 2, b"telling")


def detection(
    action: Action = "block", signature: str = "a.b", source: Endpoint = SOURCE
) -> Detection:
    return Detection(signature, 1, action, "udp", source, DESTINATION, 3, 2)


def ban(source: Endpoint = SOURCE, duration_s: int = 60) -> Ban:
    expires_ns = time.monotonic_ns() + duration_s * 1_000_000_000
    return Ban(source.address, "a.b", time.time(), time.time(), expires_ns, 1)


def lines(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


Make = Callable[..., Events]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


@pytest.fixture
def make(log: Path) -> Make:
    def made(**settings: Any) -> Events:
        return Events(Settings(event_log=(str(log),), **settings))

    return made


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
    log: Path,
    make: Make,
    caplog: pytest.LogCaptureFixture,
) -> None:
    events = make(monitor_only=monitor_only)
    bans = [ban()] if action == "block" and not monitor_only else []
    with caplog.at_level(logging.DEBUG):
        events.detected(detection(action), bans, DATAGRAM)
    events.close()
    (record,) = caplog.records
    assert record.levelno == level
    assert (monitored if monitor_only else enforced) in record.getMessage()
    assert events.by_signature == {"a.b": 1}
    found = [line for line in lines(log) if line["event"] == "detection"]
    assert [line["action"] for line in found] == ([] if action == "tag" else [action])


def test_a_detection_and_its_bans(log: Path, make: Make) -> None:
    events = make()
    events.detected(detection(), [ban()], DATAGRAM)
    events.close()
    found, banned = lines(log)
    assert found.pop("time") == pytest.approx(time.time(), abs=60)
    assert found == {
        "schema": 1,
        "event": "detection",
        "signature": "a.b",
        "rev": 1,
        "action": "block",
        "transport": "udp",
        "source": "10.0.0.1:1",
        "destination": "10.0.0.2:2",
        "flow_packet": 3,
        "payload_packet": 2,
        "tunnelled": False,
        "in_driver": False,
        "monitor_only": False,
        "repeated": False,
        "banned": ["10.0.0.1"],
    }
    assert (banned["event"], banned["address"], banned["reason"]) == ("ban", "10.0.0.1", "a.b")
    assert (banned["duration_s"], banned["offences"]) == (60, 1)
    assert events.bans == 1


def test_what_came_through_a_tunnel_is_said_to(
    log: Path, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    events = make()
    with caplog.at_level(logging.INFO):
        events.detected(replace(detection(), tunnelled=True), [], DATAGRAM)
    events.close()
    assert "10.0.0.2:2 inside a tunnel, packet 3" in caplog.text
    assert lines(log)[0]["tunnelled"] is True


def test_one_source_and_signature_is_told_of_a_few_times(
    log: Path, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    events = make(log_limit=2)
    other = Endpoint(bytes([10, 0, 0, 3]), 1)
    with caplog.at_level(logging.INFO):
        for _ in range(5):
            events.detected(detection(), [ban()], DATAGRAM)
        events.detected(detection(signature="c.d"), [], DATAGRAM)
        events.detected(detection(source=other), [], DATAGRAM)
        events.close()
    told = lines(log)
    assert [line["event"] for line in told].count("detection") == 4
    assert [line["event"] for line in told].count("ban") == 2
    assert (told[-1]["event"], told[-1]["topic"], told[-1]["count"]) == ("suppressed", "a.b", 3)
    assert "a.b: 3 more in the last 60 s, not told one by one" in caplog.text
    assert len(caplog.records) == 5
    assert (events.by_signature["a.b"], events.bans, events.suppressed) == (6, 5, 3)


def test_forged_sources_fill_no_disk(log: Path, make: Make) -> None:
    events = make(log_limit_total=100)
    for number in range(5000):
        source = Endpoint(number.to_bytes(4, "big"), 1)
        events.detected(detection(source=source), [ban(source)], DATAGRAM)
    events.expired([ban(Endpoint(number.to_bytes(4, "big"), 1)) for number in range(5000)])
    events.close()
    told = [line["event"] for line in lines(log)]
    assert (told.count("detection"), told.count("ban"), told.count("unban")) == (100, 100, 0)
    suppressed = {each["topic"]: each["count"] for each in lines(log)[-2:]}
    assert suppressed == {"a.b": 4900, "unban": 5000}
    assert len(events.latest) == LATEST
    assert (events.bans, events.lifted) == (5000, {"expired": 5000})


def test_bans_by_hand_and_their_ends(log: Path, make: Make) -> None:
    events = make()
    events.banned_by_hand(ban())
    events.unbanned_by_hand(ban())
    events.expired([ban()])
    events.expired([])
    events.exempted([ban()])
    events.close()
    assert [(line["event"], line.get("cause")) for line in lines(log)] == [
        ("ban", None),
        ("unban", "manual"),
        ("unban", "expired"),
        ("unban", "exempt"),
    ]
    assert (events.bans, events.lifted) == (1, {"manual": 1, "expired": 1, "exempt": 1})


def test_lists_of_bans_by_hand_fill_no_disk(log: Path, make: Make) -> None:
    events = make(log_limit_total=10)
    for number in range(100):
        made = ban(Endpoint(number.to_bytes(4, "big"), 1))
        events.banned_by_hand(made)
        events.unbanned_by_hand(made)
    events.close()
    told = [(line["event"], line.get("topic"), line.get("count")) for line in lines(log)]
    assert told[10:] == [("suppressed", "ban", 95), ("suppressed", "unban", 95)]
    assert (events.bans, events.lifted) == (100, {"manual": 100})


def test_what_is_told_again_is_counted_once(
    log: Path, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    events = make()
    endpoint = replace(ban(), target=bytes([10, 0, 0, 1, 0, 80]))
    with caplog.at_level(logging.INFO):
        events.detected(detection(), [], DATAGRAM)
        events.detected(replace(detection(), repeated=True), [endpoint], DATAGRAM)
    events.close()
    assert events.by_signature == {"a.b": 1}
    assert caplog.messages[0].endswith("dropped")
    assert caplog.messages[1].endswith("dropped, banned 10.0.0.1:80")
    first, again, banned = lines(log)
    assert (first["repeated"], again["repeated"]) == (False, True)
    assert banned["address"] == "10.0.0.1:80"


def test_bans_that_cannot_be_kept(log: Path, make: Make) -> None:
    events = make()
    for problem in ("", "the disk is full", "the disk is gone", "", ""):
        events.watch_state(problem)
    events.close()
    assert [(line["what"], line["over"]) for line in lines(log)] == [
        ("state", False),
        ("state", True),
    ]
    assert "the disk is full" in lines(log)[0]["message"]
    assert events.troubles == {"state": 1}


def test_reloads(log: Path, make: Make) -> None:
    events = make()
    loaded_at = events.loaded_at
    events.reload_refused("x" * 5000, 0.5)
    assert events.loaded_at == loaded_at
    events.reloaded(7, 1.25)
    events.close()
    refused, done = lines(log)
    assert (refused["outcome"], refused["signatures"], len(refused["message"])) == (
        "refused",
        None,
        2000,
    )
    assert (done["outcome"], done["signatures"], done["duration_s"]) == ("ok", 7, 1.25)
    assert events.reloads == {"ok": 1, "refused": 1}
    assert events.loaded_at > loaded_at


def test_a_log_that_was_renamed_is_left_for_a_new_one(log: Path, make: Make) -> None:
    events = make()
    events.trouble("xdp", "before")
    old = log.rename(log.with_suffix(".1"))
    events.trouble("xdp", "between")
    events.reopen()
    events.trouble("xdp", "after")
    events.close()
    assert [line["message"] for line in lines(old)] == ["before", "between"]
    assert [line["message"] for line in lines(log)] == ["after"]


def test_several_logs_get_the_same(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    events = Events(Settings(event_log=(str(first), str(second))))
    events.trouble("xdp", "here")
    events.close()
    assert first.read_bytes() == second.read_bytes() != b""


def test_a_log_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot write the event log /nosuch/log: .*No such file"):
        Events(Settings(event_log=(str(tmp_path / "fine"), "/nosuch/log")))
    with pytest.raises(InputError, match=r"cannot write the detection log: .*No such file"):
        Events(Settings(detection_log=Path("/nosuch/log")))


def test_a_log_that_fails_and_recovers_is_told_of(
    log: Path, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    os.mkfifo(log)
    reader = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    events = make()
    os.close(reader)  # a pipe that nobody reads: EPIPE

    def tell_in_vain(lost: int) -> None:
        events.trouble("xdp", "lost")
        wait_until(lambda: events.lost == lost, 5, "seen to be lost")

    tell_in_vain(1)
    events.watch()
    wait_until(lambda: events.lost == 2, 5, "the trouble with the log is lost as well")
    tell_in_vain(3)
    events.watch()
    assert events.troubles == {"xdp": 2, "event-log": 1}
    reader = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    events.trouble("xdp", "written")
    events.close()
    events.watch()
    os.close(reader)
    messages = [record.getMessage() for record in caplog.records]
    assert f"the event log {log} cannot be written: Broken pipe" in messages
    assert f"the event log {log} is written again; 3 entries were lost" in messages
