"""Metrics of a running blocker, over HTTP and on the command line."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from engine.service.clients import MAX_CLIENTS
from tests.service.traffic import DHT_PING, Datagrams
from tools.lab.blocker import Blocker, run_blocker
from tools.lab.namespace import call_in
from tools.lab.program import LabError, wait_until
from tools.lab.topology import Topology

pytestmark = pytest.mark.lab

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "engine.cli"]
ON_THE_QUEUE_ALONE = ("--xdp-mode", "off")
PORT = 9810
METRICS = ("--metrics-listen", f"127.0.0.1:{PORT}")


def _connection(topology: Topology, timeout_s: float = 10) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection("127.0.0.1", PORT)
    connection.sock = call_in(topology.router.name, socket.socket)
    connection.sock.settimeout(timeout_s)
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


def _is_served(topology: Topology) -> bool:
    with contextlib.suppress(OSError, http.client.HTTPException):
        return bool(_scrape(topology))
    return False


def _is_told(blocker: Blocker) -> bool:
    return any(
        event["event"] == "trouble" and event["what"] == "metrics" for event in blocker.events()
    )


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
        with contextlib.ExitStack() as idle:
            for _ in range(3 * MAX_CLIENTS):
                connection = idle.enter_context(contextlib.closing(_connection(topology)))
                connection.sock.sendall(b"\x00\xff\r\n")
            assert "btblocker_bans_active" in _scrape(topology), "with all of them connected"
            assert len(list(Path(f"/proc/{server}/fd").iterdir())) <= MAX_CLIENTS + 20
            assert blocker.status()["queue"]["errors"] == 0
        os.kill(server, signal.SIGKILL)
        wait_until(lambda: _is_told(blocker), 15, "told of")
        assert _metrics_server(blocker) != server
        wait_until(lambda: _is_served(topology), 30, "served by another one")


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
