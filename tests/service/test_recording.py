"""What a running blocker writes down: its events and its evidence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from engine.service.event import event_schema
from tests.service.chat import CHAT
from tests.service.traffic import DHT_PING, INNOCENT, Datagrams
from tools.lab.blocker import Blocker, run_blocker
from tools.lab.program import wait_until
from tools.lab.topology import LAN_INTERFACE, Topology

pytestmark = pytest.mark.lab

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "engine.cli"]
ON_THE_QUEUE_ALONE = ("--xdp-mode", "off")

HELLO = b"CHAT/1 hello"


def _kinds(blocker: Blocker) -> list[str]:
    return [event["event"] for event in blocker.events()]


def _has(blocker: Blocker, kind: str, **values: object) -> bool:
    return any(
        event["event"] == kind and values.items() <= event.items() for event in blocker.events()
    )


def _detect(datagrams: Datagrams, count: int, first_port: int = 20000) -> None:
    """Send telling datagrams, each in a flow of its own."""
    for port in range(first_port, first_port + count):
        datagrams.client.sendto(DHT_PING, (datagrams.server_address, port))
        if port % 100 == 0:
            time.sleep(0.01)


# --- events


def test_the_events_of_a_life(topology: Topology, tmp_path: Path) -> None:
    file = tmp_path / "chat.yaml"
    file.write_text(CHAT)
    options = ("--signatures", str(tmp_path), "--ban-duration", "1", "--cleanup-interval", "1")
    client = topology.client_address(4)
    with run_blocker(topology, *options) as blocker, Datagrams(topology) as datagrams:
        assert not datagrams.pass_through(HELLO)
        wait_until(lambda: _has(blocker, "unban", cause="expired"), 10, "the ban's end")
        server = topology.server_address(4)
        command = topology.router.run([*COMMAND, "ban", "--duration", "60", server])
        assert "is banned" in command.stdout
        topology.router.run([*COMMAND, "unban", server])
        blocker.reload()
        wait_until(lambda: _has(blocker, "reload", outcome="ok"), 20, "reloaded")
        file.write_text(CHAT.replace("$hello at 0", "$hullo at 0"))
        blocker.reload()
        wait_until(lambda: _has(blocker, "reload", outcome="refused"), 20, "refused")
    events = blocker.events()
    validator = jsonschema.Draft202012Validator(event_schema())
    for event in events:
        assert [error.message for error in validator.iter_errors(event)] == [], event
    assert _kinds(blocker) == [
        *("start", "detection", "ban", "unban", "ban", "unban", "reload", "reload", "stop")
    ]
    start, detection, ban, expired, by_hand, lifted, _, refused, stop = events
    assert (start["signatures"], start["xdp"][0]["name"]) == (1, LAN_INTERFACE)
    assert (detection["signature"], detection["banned"]) == ("example.chat.hello", [client])
    assert (ban["address"], ban["reason"]) == (client, "example.chat.hello")
    assert (expired["address"], expired["reason"]) == (client, "example.chat.hello")
    assert (by_hand["reason"], lifted["cause"]) == ("manual", "manual")
    assert "S011" in refused["message"]
    assert (stop["detections"], stop["dropped"]) == (1, 1)


def test_after_a_rename_sighup_begins_a_new_log(topology: Topology) -> None:
    with (
        run_blocker(topology, "--monitor-only") as blocker,
        Datagrams(topology) as datagrams,
    ):
        _detect(datagrams, 1)
        wait_until(lambda: _has(blocker, "detection"), 5, "detected")
        old = blocker.event_log.rename(blocker.event_log.with_suffix(".jsonl.1"))
        _detect(datagrams, 1, 21000)
        wait_until(lambda: old.read_text().count("detection") == 2, 5, "written to the old one")
        blocker.reload()
        wait_until(lambda: _has(blocker, "reload"), 20, "reloaded")
        _detect(datagrams, 1, 22000)
        wait_until(lambda: _has(blocker, "detection"), 5, "written to the new one")
        assert old.read_text().count('"detection"') == 2
        assert _kinds(blocker) == ["reload", "detection"]


def test_a_full_disk_stops_no_traffic(topology: Topology) -> None:
    folder = topology.folder / "small"
    folder.mkdir()
    with_small_disk = (
        *("unshare", "--mount", "sh", "-ec"),
        'mount -t tmpfs -o size=256k tmpfs "$0"; head -c 200k /dev/zero > "$0"/ballast; exec "$@"',
        str(folder),
    )
    options = (
        *("--monitor-only", "--event-log", f"{folder}/events.jsonl"),
        *("--detection-log", f"{folder}/detections.log"),
    )
    with (
        run_blocker(topology, *options, prefix=with_small_disk) as blocker,
        Datagrams(topology) as datagrams,
    ):
        # The daemon's own mounts, as seen through its process.
        seen = Path(f"/proc/{blocker.program.process.pid}/root{folder}")

        def troubles() -> dict[str, int]:
            found: dict[str, int] = blocker.status()["events"]["troubles"]
            return found

        _detect(datagrams, 500)
        wait_until(lambda: set(troubles()) == {"event-log", "detection-log"}, 20, "told of")
        assert datagrams.pass_through(INNOCENT)
        status = blocker.status()
        assert (status["detections"]["total"], status["queue"]["errors"]) == (500, 0)
        assert status["events"]["lost"] > 0
        log = blocker.program.log.read_text()
        assert f"the event log {folder}/events.jsonl cannot be written: No space left" in log
        (seen / "ballast").unlink()

        def written() -> list[dict[str, Any]]:
            lines = (seen / "events.jsonl").read_text().splitlines()
            return [json.loads(line) for line in lines]

        def detect_one_more() -> bool:
            _detect(datagrams, 1, 30000 + len(written()))
            return any(event.get("over") and event["count"] > 0 for event in written())

        wait_until(detect_one_more, 20, "written again, and every line is whole")
        capture = seen / "detections.pcapng"
        done = subprocess.run(
            [ROOT / "tools/sigtest", capture], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "bittorrent.dht.query" in done.stdout


def test_a_log_that_nobody_reads_holds_up_nothing(topology: Topology) -> None:
    pipe, log = topology.folder / "stderr", topology.folder / "events.jsonl"
    os.mkfifo(pipe)
    program = topology.spawn(
        topology.router,
        [
            *("sh", "-c", 'exec "$@" 2<>"$0"', str(pipe), *COMMAND, "run", "--manage-rules"),
            *("--monitor-only", "--event-log", str(log), "--interface", LAN_INTERFACE),
            *("--log-limit", "1000000", "--log-limit-total", "1000000"),
        ],
        name="btblocker",
        environment={"PYTHONPATH": str(ROOT)},
    )
    program.wait_for(lambda: log.exists() and '"start"' in log.read_text(), 30)
    with Datagrams(topology) as datagrams:
        # Their lines are a multiple of what a pipe holds.
        _detect(datagrams, 2000)
        wait_until(lambda: log.read_text().count('"detection"') == 2000, 20, "all detected")
        assert datagrams.pass_through(INNOCENT)
    assert program.stop() == 0


# --- evidence


@pytest.mark.parametrize("family", [4, 6])
def test_evidence_says_the_same_to_sigtest(topology: Topology, family: Any) -> None:
    dump = topology.folder / "detections.log"
    with (
        run_blocker(topology, "--detection-log", str(dump)) as blocker,
        Datagrams(topology, family) as datagrams,
    ):
        assert not datagrams.pass_through(DHT_PING)
        wait_until(lambda: dump.exists() and "(rev " in dump.read_text(), 5, "written")
        (detection,) = blocker.detections()
    done = subprocess.run(
        [ROOT / "tools/sigtest", "--json", dump.with_suffix(".pcapng")],
        capture_output=True,
        text=True,
        check=True,
    )
    flow = json.loads(done.stdout.splitlines()[0])
    assert flow["signatures"] == [detection.signature]
    assert {flow["a"], flow["b"]} == {detection.source, detection.destination}
    assert f"{detection.source} -> {detection.destination}" in dump.read_text()
