"""What an operator sees of a running blocker: its events, its evidence, its metrics."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from prometheus_client.parser import text_string_to_metric_families

from engine.service.event import event_schema
from tests.service.traffic import DHT_PING, INNOCENT, Datagrams
from tools.lab.blocker import Blocker, run_blocker
from tools.lab.namespace import call_in
from tools.lab.program import LabError, Program, wait_until
from tools.lab.topology import LAN_INTERFACE, Topology

pytestmark = pytest.mark.lab

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "engine.cli"]
ON_THE_QUEUE_ALONE = ("--xdp-mode", "off")
PORT = 9810
METRICS = ("--metrics-listen", f"127.0.0.1:{PORT}")

SIGNATURE = """
id: example.chat.hello
title: A made-up protocol
scope: {transport: udp}
patterns: |
  $hello = "CHAT/1 hello"
when: |
  $hello at 0
then: {action: block}
tests:
  - {expect: match, payload: '"CHAT/1 hello"'}
  - {expect: no match, payload: '"chat"'}
"""
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
    file.write_text(SIGNATURE)
    options = ("--signatures", str(tmp_path), "--ban-duration", "1", "--cleanup-interval", "1")
    client = topology.client_address(4)
    with run_blocker(topology, *options) as blocker, Datagrams(topology) as datagrams:
        assert not datagrams.pass_through(HELLO)
        wait_until(lambda: _has(blocker, "unban", cause="expired"), 10, "the ban's end")
        command = topology.router.run([*COMMAND, "ban", topology.server_address(4)])
        assert "is banned" in command.stdout
        topology.router.run([*COMMAND, "unban", topology.server_address(4)])
        blocker.reload()
        wait_until(lambda: _has(blocker, "reload", outcome="ok"), 20, "reloaded")
        file.write_text(SIGNATURE.replace("$hello at 0", "$hullo at 0"))
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


# --- metrics


def _connection(topology: Topology) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=10)
    connection.sock = call_in(topology.router.name, socket.socket)
    connection.sock.settimeout(10)
    connection.sock.connect(("127.0.0.1", PORT))
    return connection


def _scrape(topology: Topology) -> dict[str, float]:
    """Values by name and labels, as Prometheus writes them."""
    with contextlib.closing(_connection(topology)) as connection:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    return {
        sample.name + "".join(f" {key}={value}" for key, value in sorted(sample.labels.items())): (
            sample.value
        )
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def _metrics_server(blocker: Blocker) -> int:
    """The process that serves metrics."""
    pid = blocker.program.process.pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            if b"metrics_server" in Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
    raise LabError("lab: no process serves metrics")


def test_metrics_are_served_while_packets_pass(topology: Topology) -> None:
    with (
        run_blocker(topology, *METRICS) as blocker,
        Datagrams(topology) as datagrams,
    ):
        received = set()
        datagrams.server.settimeout(2)
        for number in range(2000):
            datagrams.client.sendto(b"%d" % number, datagrams.server.getsockname()[:2])
            received.add(int(datagrams.server.recv(64)))
            if number % 200 == 0:
                assert "btblocker_packets_total verdict=accept" in _scrape(topology)
        assert received == set(range(2000))
        assert not datagrams.pass_through(DHT_PING)
        scraped, status = _scrape(topology), blocker.status()
        assert scraped["btblocker_packets_total verdict=accept"] == 2000
        assert scraped["btblocker_packets_total verdict=drop"] == 1
        assert scraped["btblocker_detections_total signature=bittorrent.dht.query"] == 1
        assert scraped["btblocker_bans_active"] == 1
        assert scraped["btblocker_judge_seconds_count"] == sum(status["latency"]["counts"]) > 0
        assert scraped["btblocker_queue_lost_packets_total full=queue"] == 0
        printed = topology.router.run([*COMMAND, "metrics"]).stdout
        assert 'btblocker_packets_total{verdict="drop"} 1.0\n' in printed


def test_who_serves_metrics_may_do_nothing_else(topology: Topology) -> None:
    with run_blocker(topology, *METRICS, *ON_THE_QUEUE_ALONE) as blocker:
        server = _metrics_server(blocker)
        facts = dict(
            line.split(":\t", 1) for line in Path(f"/proc/{server}/status").read_text().splitlines()
        )
        assert facts["Uid"].split() == ["65534"] * 4
        assert facts["Gid"].split() == ["65534"] * 4
        assert facts["Groups"].split() == []
        assert int(facts["CapEff"], 16) == int(facts["CapPrm"], 16) == 0
        assert facts["NoNewPrivs"] == "1"
        # Neither a client that speaks no HTTP nor many that say nothing disturb the others.
        idle = [_connection(topology) for _ in range(200)]
        idle[0].sock.sendall(b"\x00\xff\r\n\r\n")
        assert blocker.status()["queue"]["errors"] == 0
        for connection in idle:
            connection.close()
        wait_until(lambda: bool(_scrape(topology)), 10, "served again")
        os.kill(server, signal.SIGKILL)
        wait_until(lambda: _has(blocker, "trouble", what="metrics"), 15, "told of")
        assert _metrics_server(blocker) != server

        def served() -> bool:
            with contextlib.suppress(OSError):
                return bool(_scrape(topology))
            return False

        wait_until(served, 15, "served again")


def test_it_ends_with_the_blocker_however_that_ends(topology: Topology) -> None:
    with contextlib.suppress(LabError), run_blocker(topology, *METRICS) as blocker:
        server = _metrics_server(blocker)
        blocker.program.process.kill()
        blocker.program.process.wait()
        wait_until(lambda: not Path(f"/proc/{server}").exists(), 10, "gone")


@pytest.mark.parametrize(
    ("listen", "said"),
    [
        (f"127.0.0.1:{PORT}", f"cannot serve metrics on 127.0.0.1:{PORT}: Address already in use"),
        ("192.0.2.77:9810", "cannot serve metrics on 192.0.2.77:9810: Cannot assign"),
        ("127.0.0.1:80", "cannot serve metrics on 127.0.0.1:80: Permission denied"),
        ("9810", "--metrics-listen: it must be HOST:PORT, as in 127.0.0.1:9810"),
    ],
)
def test_where_nothing_can_be_served_it_does_not_start(
    topology: Topology, listen: str, said: str
) -> None:
    topology.router.run(["sh", "-c", "echo 1024 > /proc/sys/net/ipv4/ip_unprivileged_port_start"])
    taken = call_in(topology.router.name, lambda: socket.create_server(("127.0.0.1", PORT)))
    with taken:
        command = [*COMMAND, "run", *ON_THE_QUEUE_ALONE, "--metrics-listen", listen]
        done = topology.router.run(command, check=False, timeout_s=30)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


# --- top


def test_top_streams_json(topology: Topology) -> None:
    with run_blocker(topology, *ON_THE_QUEUE_ALONE), Datagrams(topology) as datagrams:
        program = topology.spawn(
            topology.router, [*COMMAND, "top", "--json", "--interval", "0.5"], name="top"
        )

        def objects() -> list[dict[str, Any]]:
            lines = program.log.read_text().split("\n")[:-1]
            return [json.loads(line) for line in lines]

        program.wait_for(lambda: len(objects()) >= 1, 20)
        for _ in range(100):
            assert datagrams.pass_through(INNOCENT)
        assert not datagrams.pass_through(DHT_PING)
        seen = len(objects())
        program.wait_for(lambda: len(objects()) >= seen + 2, 20)
        assert program.stop(signal.SIGINT) == 0
        packets = sum(each["packets_per_s"] * each["interval_s"] for each in objects())
        assert round(packets) == 101
        last = objects()[-1]
        assert last["bans"] == 1
        assert [each["id"] for each in last["signatures"]] == ["bittorrent.dht.query"]


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Both ends of a terminal."""
    master, slave = os.openpty()
    yield master, slave
    os.close(master)
    with contextlib.suppress(OSError):
        os.close(slave)


def test_top_is_live_in_a_terminal_and_ends_cleanly(
    topology: Topology, terminal: tuple[int, int]
) -> None:
    master, slave = terminal
    with run_blocker(topology, *ON_THE_QUEUE_ALONE), Datagrams(topology) as datagrams:
        datagrams.pass_through(DHT_PING)
        process = subprocess.Popen(
            topology.router.command([*COMMAND, "top", "--interval", "0.2"]),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "TERM": "xterm", "PYTHONPATH": str(ROOT), "COLUMNS": "120"},
        )
        program = Program("top", process, topology.folder / "none")
        shown = b""
        os.set_blocking(master, False)

        def shows_twice() -> bool:
            nonlocal shown
            with contextlib.suppress(BlockingIOError):
                shown += os.read(master, 65536)
            return shown.count(b"packets judged") >= 2

        wait_until(shows_twice, 20, "shown twice")
        assert b"bittorrent.dht.query" in shown
        assert program.stop(signal.SIGINT) == 0
        with contextlib.suppress(BlockingIOError, OSError):
            shown += os.read(master, 65536)
        assert b"Traceback" not in shown
        # The terminal's own screen and its cursor are back.
        assert shown.rindex(b"\x1b[?1049l") > shown.rindex(b"\x1b[?1049h")
        assert shown.rindex(b"\x1b[?25h") > shown.rindex(b"\x1b[?25l")


def test_top_prints_once_where_there_is_no_terminal(topology: Topology) -> None:
    with run_blocker(topology, *ON_THE_QUEUE_ALONE), Datagrams(topology) as datagrams:
        datagrams.pass_through(DHT_PING)
        done = topology.router.run([*COMMAND, "top", "--interval", "0.2"])
        assert done.stdout.count("packets judged") == 1
        assert "\x1b" not in done.stdout
        page = topology.router.run([*COMMAND, "status"]).stdout
        assert "bittorrent.dht.query" in page
        assert "half within" in page
    done = topology.router.run([*COMMAND, "top"], check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "no btblocker runs on queue 0 here" in done.stderr
