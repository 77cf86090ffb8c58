"""The form of events: what docs/events.schema.json promises to programs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from engine.service.event import (
    Banned,
    Event,
    Found,
    Lifted,
    Reloaded,
    Start,
    Stop,
    Suppressed,
    Trouble,
    XdpInterface,
    event_schema,
    event_schema_text,
)

ROOT = Path(__file__).resolve().parents[2]
VALIDATOR = jsonschema.Draft202012Validator(event_schema())

EXAMPLES: tuple[Event, ...] = (
    Start(
        blocker="0.1.0",
        pid=1,
        queue=0,
        signatures=8,
        monitor_only=False,
        xdp=(XdpInterface(name="eth0", mode="native"),),
    ),
    Stop(uptime_s=1.5, packets=3, dropped=1, detections=1),
    Found(
        signature="a.b",
        rev=1,
        action="block",
        transport="udp",
        source="10.0.0.1:1",
        destination="[2001:db8::1]:2",
        flow_packet=1,
        payload_packet=1,
        tunnelled=False,
        in_driver=False,
        monitor_only=False,
        repeated=False,
        banned=("10.0.0.1",),
    ),
    Banned(address="10.0.0.1", reason="a.b", duration_s=60, offences=1),
    Lifted(address="10.0.0.1", reason="a.b", cause="expired"),
    Reloaded(outcome="ok", duration_s=0.5, signatures=8, message=None),
    Reloaded(outcome="refused", duration_s=0.5, signatures=None, message="error[S010]"),
    Trouble(what="packets-lost", message="3 packets were lost", over=False, count=3),
    Suppressed(topic="a.b", count=3, window_s=60),
)


def as_written(event: Event) -> dict[str, Any]:
    line = event.line()
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    written: dict[str, Any] = json.loads(line)
    return written


def test_schema_is_a_schema_and_the_file_is_current() -> None:
    jsonschema.Draft202012Validator.check_schema(event_schema())
    path = ROOT / "docs" / "events.schema.json"
    assert path.read_text("utf-8") == event_schema_text(), "run `python -m tools.reference`"


def test_there_is_an_example_of_every_kind() -> None:
    kinds = set(event_schema()["discriminator"]["mapping"])
    assert {example.event for example in EXAMPLES} == kinds


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: event.event)
def test_what_is_written_keeps_to_the_schema(event: Event) -> None:
    written = as_written(event)
    assert [error.message for error in VALIDATOR.iter_errors(written)] == []
    assert list(written)[:3] == ["schema", "time", "event"]
    assert written["schema"] == 1
    # A reader of this version must get along with keys that a later one adds.
    assert VALIDATOR.is_valid(written | {"later": 1})


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: event.event)
def test_the_schema_misses_every_key(event: Event) -> None:
    written = as_written(event)
    for key in written:
        assert not VALIDATOR.is_valid({k: v for k, v in written.items() if k != key}), key


def test_the_document_s_example_keeps_to_the_schema() -> None:
    text = (ROOT / "docs" / "events.md").read_text("utf-8")
    (example,) = re.findall(r"```json\n(.*?)\n```", text)
    assert [error.message for error in VALIDATOR.iter_errors(json.loads(example))] == []


def test_the_schema_refuses_other_versions_and_kinds() -> None:
    written = as_written(EXAMPLES[0])
    assert not VALIDATOR.is_valid(written | {"schema": 2})
    assert not VALIDATOR.is_valid(written | {"event": "end"})
