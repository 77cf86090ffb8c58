"""The processes that packets go through: several, dead ones, hung ones, full queues."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from engine.service.control import ask
from engine.service.worker import MAX_UNTOLD
from engine.service.workers import MAX_SILENCE_S
from engine.sources.nfqueue import QUEUE_LENGTH
from tests.service.traffic import DHT_PING, Datagrams, tcp_exchange
from tools.lab.blocker import Blocker, run_blocker
from tools.lab.namespace import call_in
from tools.lab.program import wait_until
from tools.lab.topology import HOST_INTERFACE, Topology

pytestmark = pytest.mark.lab

# Messages to a process that reads none.
FILLS_A_SOCKET = 1000
ON_THE_QUEUE_ALONE = ("--xdp-mode", "off")


def workers(blocker: Blocker) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = blocker.status()["workers"]
    return found


def replaced(blocker: Blocker, pid: int) -> bool:
    return [w["pid"] for w in workers(blocker)] not in ([], [pid])


def test_a_dead_worker_is_replaced_and_traffic_flows_meanwhile(topology: Topology) -> None:
    with run_blocker(topology, *ON_THE_QUEUE_ALONE) as blocker, Datagrams(topology) as datagrams:
        (worker,) = workers(blocker)
        before = blocker.status()["queue"]["packets"]
        os.kill(worker["pid"], signal.SIGKILL)
        wait_until(lambda: not blocker.kernel_queue(), 5, "nobody listens on the queue")
        for _ in range(5):
            assert datagrams.pass_through()
        wait_until(lambda: replaced(blocker, worker["pid"]), 20, "replaced")
        assert blocker.status()["queue"]["packets"] >= before, "what the dead one counted stays"
        assert not datagrams.pass_through(DHT_PING)
        assert "another one takes its place" in blocker.program.log.read_text()


def test_a_new_worker_knows_the_bans(topology: Topology) -> None:
    with run_blocker(topology, *ON_THE_QUEUE_ALONE) as blocker, Datagrams(topology) as datagrams:
        assert not datagrams.pass_through(DHT_PING)
        (worker,) = workers(blocker)
        os.kill(worker["pid"], signal.SIGKILL)
        wait_until(lambda: replaced(blocker, worker["pid"]), 20, "replaced")
        with Datagrams(topology) as others:
            assert not others.pass_through()


def test_a_daemon_that_was_away_blames_no_worker(topology: Topology) -> None:
    with run_blocker(topology, *ON_THE_QUEUE_ALONE) as blocker, Datagrams(topology) as datagrams:
        before = workers(blocker)
        process = blocker.program.process
        process.send_signal(signal.SIGSTOP)
        try:
            assert datagrams.pass_through()
            assert not datagrams.pass_through(DHT_PING), "the worker goes on alone"
            time.sleep(MAX_SILENCE_S + 1)
        finally:
            process.send_signal(signal.SIGCONT)
        time.sleep(2)
        assert [worker["pid"] for worker in workers(blocker)] == [w["pid"] for w in before]
        assert blocker.status()["bans"]["active"] == 1, "what it missed reaches it later"


def test_bans_that_a_stopped_worker_could_not_be_told_reach_it_later(topology: Topology) -> None:
    with run_blocker(topology, *ON_THE_QUEUE_ALONE) as blocker, Datagrams(topology) as datagrams:
        (worker,) = workers(blocker)
        addresses = [f"203.0.113.{n % 256}" for n in range(FILLS_A_SOCKET)]

        def ban_all() -> None:
            for address in (*addresses, topology.client_address(4)):
                ask(0, {"command": "ban", "bans": [{"address": address}]})

        os.kill(worker["pid"], signal.SIGSTOP)
        try:
            call_in(topology.router.name, ban_all)
        finally:
            os.kill(worker["pid"], signal.SIGCONT)
        wait_until(lambda: not datagrams.pass_through(), 20, "the last ban holds")
        assert [w["pid"] for w in workers(blocker)] == [worker["pid"]]


def test_what_a_worker_cannot_tell_takes_bounded_memory(topology: Topology) -> None:
    """As many detections as one packet after the other can cause, and a daemon that is away."""
    with run_blocker(topology, *ON_THE_QUEUE_ALONE) as blocker, Datagrams(topology) as datagrams:
        process = blocker.program.process
        process.send_signal(signal.SIGSTOP)
        try:
            for port in range(1, 2 * MAX_UNTOLD):
                datagrams.client.sendto(DHT_PING, (datagrams.server_address, port))
                if port % 200 == 0:
                    time.sleep(0.02)
        finally:
            process.send_signal(signal.SIGCONT)
        wait_until(lambda: blocker.status()["queue"]["unreported"] > 0, 20, "too much was counted")
        status = blocker.status()
        told = status["detections"]["total"]
        assert MAX_UNTOLD <= told <= 2 * MAX_UNTOLD - status["queue"]["unreported"]


def test_a_full_queue_lets_packets_pass(topology: Topology) -> None:
    with run_blocker(topology, *ON_THE_QUEUE_ALONE) as blocker, Datagrams(topology) as datagrams:
        (worker,) = workers(blocker)
        os.kill(worker["pid"], signal.SIGSTOP)
        try:
            for _ in range(QUEUE_LENGTH + 100):
                datagrams.client.sendto(b"waits", datagrams.server.getsockname()[:2])
            assert datagrams.pass_through(b"passes")
        finally:
            os.kill(worker["pid"], signal.SIGCONT)
        queue = blocker.status()["queue"]
        assert (queue["queue_dropped"], queue["errors"]) == (0, 0)


def test_a_worker_remembers_no_more_flows_than_it_may(topology: Topology) -> None:
    options = ("--max-flows", "1024", *ON_THE_QUEUE_ALONE)
    with run_blocker(topology, *options) as blocker, Datagrams(topology) as datagrams:
        for port in range(20000, 23000):
            datagrams.client.sendto(b"hello", (topology.server_address(4), port))
        assert datagrams.pass_through()
        wait_until(lambda: blocker.status()["queue"]["packets"] > 3000, 20, "all are inspected")
        assert 512 <= blocker.status()["flows"] <= 1024


def test_a_full_queue_that_fails_closed_drops(topology: Topology) -> None:
    options = ("--no-fail-open", *ON_THE_QUEUE_ALONE)
    with run_blocker(topology, *options) as blocker, Datagrams(topology) as datagrams:
        (worker,) = workers(blocker)
        os.kill(worker["pid"], signal.SIGSTOP)
        try:
            for _ in range(QUEUE_LENGTH + 100):
                datagrams.client.sendto(b"waits", datagrams.server.getsockname()[:2])
            assert not datagrams.pass_through(b"too much")
        finally:
            os.kill(worker["pid"], signal.SIGCONT)
        queue = blocker.status()["queue"]
        assert queue["queue_dropped"] >= 100


def test_fail_closed_nothing_passes_without_a_worker(topology: Topology) -> None:
    options = ("--no-fail-open", *ON_THE_QUEUE_ALONE)
    with run_blocker(topology, *options) as blocker, Datagrams(topology) as datagrams:
        assert datagrams.pass_through()
        (worker,) = workers(blocker)
        os.kill(worker["pid"], signal.SIGKILL)
        wait_until(lambda: not blocker.kernel_queue(), 5, "nobody listens on the queue")
        assert not datagrams.pass_through()
        wait_until(lambda: replaced(blocker, worker["pid"]), 20, "replaced")
        assert datagrams.pass_through()


def test_several_workers_share_bans_and_signatures(topology: Topology) -> None:
    with run_blocker(topology, "--workers", "3", *ON_THE_QUEUE_ALONE) as blocker:
        assert [worker["queue"] for worker in workers(blocker)] == [0, 1, 2]
        with Datagrams(topology) as datagrams, Datagrams(topology, 6) as six:
            for _ in range(10):
                assert datagrams.pass_through()
                assert datagrams.pass_back()
            # Both ways of a flow go to one worker.
            assert [w["packets"] for w in workers(blocker) if w["packets"]] == [20]
            blocker.reload()
            wait_until(lambda: blocker.status()["signatures"]["reloads"] == 1, 20, "reloaded")
            assert not datagrams.pass_through(DHT_PING)
            assert not six.pass_through(DHT_PING)
        assert blocker.status()["bans"]["active"] == 2
        with Datagrams(topology) as others:
            assert not others.pass_through()


TAGGING = """
id: test.tags
title: It tags
scope: {transport: udp}
patterns: |
  $tag = "tag me!"
when: |
  $tag at 0
then: {action: tag, tag: {name: seen, of: src, for: 1m}}
tests:
  - {expect: match, payload: '"tag me!"'}
  - {expect: no match, payload: '"no"'}
---
id: test.asks
title: It asks
scope: {transport: udp}
patterns: |
  $ask = "am I tagged?"
when: |
  $ask at 0 and src.tagged("seen")
then: {action: drop}
tests:
  - {expect: match, payload: '"am I tagged?"', tagged: {src: [seen]}}
  - {expect: no match, payload: '"am I tagged?"'}
"""


def test_tags_are_known_to_all_workers(topology: Topology, tmp_path: Path) -> None:
    (tmp_path / "tags.yaml").write_text(TAGGING)
    first = ip_address(topology.server_address(4))
    others = [str(first + number) for number in range(1, 9)]
    for address in others:
        device = ["dev", HOST_INTERFACE]
        topology.server.run(["ip", "address", "add", f"{address}/24", *device])
    options = ("--workers", "4", "--signatures", str(tmp_path), *ON_THE_QUEUE_ALONE)
    with run_blocker(topology, *options) as blocker, Datagrams(topology) as datagrams:
        assert datagrams.pass_through(b"am I tagged?")
        assert datagrams.pass_through(b"tag me!")
        workers(blocker)  # what the one that has seen it set has told, the others have by now
        receiver = call_in(topology.server.name, lambda: socket.socket(type=socket.SOCK_DGRAM))
        with receiver:
            receiver.bind(("", 0))
            receiver.settimeout(0.5)
            for address in others:
                datagrams.client.sendto(b"am I tagged?", (address, receiver.getsockname()[1]))
            with pytest.raises(TimeoutError):
                receiver.recv(100)
        assert len([worker for worker in workers(blocker) if worker["packets"]]) > 1


def test_super_packets_reach_the_queue_whole(topology: Topology) -> None:
    sent = 256 * 1024
    with run_blocker(topology, *ON_THE_QUEUE_ALONE) as blocker:
        assert len(tcp_exchange(topology, bytes(sent))) == sent
        segments = sent / 1448
        assert blocker.status()["queue"]["packets"] < segments / 2


def test_a_worker_that_cannot_be_replaced_is_told_once(topology: Topology) -> None:
    with run_blocker(topology, *ON_THE_QUEUE_ALONE) as blocker:
        (worker,) = workers(blocker)
        os.kill(worker["pid"], signal.SIGKILL)
        listen = "import netfilterqueue as n; q = n.NetfilterQueue(); q.bind(0, print); q.run()"
        thief = topology.spawn(topology.router, [sys.executable, "-c", listen], name="thief")

        def told() -> list[str]:
            return [e["message"] for e in blocker.events() if e["event"] == "trouble"]

        wait_until(lambda: len(told()) == 2, 30, "told")
        assert "killed, by somebody or for want of memory" in told()[0]
        assert "does not start (Failed to open NFQUEUE 0: another program" in told()[1]
        thief.stop()
        wait_until(lambda: replaced(blocker, worker["pid"]), 20, "replaced")
        assert len(told()) == 2
