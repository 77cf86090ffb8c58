"""A million forged sources, a million mutated packets."""

from __future__ import annotations

import multiprocessing
import random
import resource
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.compiler.ruleset import RuleSet
from engine.enforce.bans import MAX_BANS
from engine.inspect.flow import DEFAULT_MAX_FLOWS
from engine.inspect.inspector import Inspector
from engine.inspect.judgement import Verdict
from engine.inspect.packet import ACK, SYN
from tests.captures import ip, udp
from tests.loading import SHIPPED
from tests.reliability.conftest import Measured
from tests.service.load import Load
from tests.service.traffic import DHT_PING, INNOCENT, Datagrams
from tools.lab.blocker import Blocker, run_blocker
from tools.lab.forge import start_forging
from tools.lab.program import wait_until
from tools.lab.topology import Topology

MILLION = 1_000_000
FORGED_A_SECOND = 40_000
# Of all the blocker's processes together; docs/performance.md says what a million bans take.
MAX_RESIDENT_B = 1_500 * 1024 * 1024


def _resident_b(blocker: Blocker) -> int:
    return sum(process["resident_bytes"] for process in blocker.status()["processes"])


def _backlog_drops() -> int:
    """Packets that this machine's kernel has dropped between devices, on all of its processors.

    Documentation/admin-guide/sysctl/net.rst, netdev_max_backlog: nobody has seen these yet.
    """
    lines = Path("/proc/net/softnet_stat").read_text().splitlines()
    return sum(int(line.split()[1], 16) for line in lines)


@pytest.mark.lab
def test_a_million_forged_sources(topology: Topology, measured: Measured) -> None:
    flooded, other = topology.lines
    # A closed port would answer each by ICMP.
    flooded.server.run(["iptables", "-t", "raw", "-A", "PREROUTING", "-p", "udp", "-j", "DROP"])
    limits = ("--log-limit", "10", "--log-limit-total", "100")
    with run_blocker(topology, *limits) as blocker:
        before_b, dropped_before = _resident_b(blocker), _backlog_drops()
        began_s = time.monotonic()
        with Load(other, probes=False) as load:
            forge = start_forging(
                flooded, DHT_PING, sources=MILLION, count=MILLION, per_second=FORGED_A_SECOND
            )
            assert forge.process.wait(120) == 0
            took_s = time.monotonic() - began_s
        began_s = time.monotonic()
        wait_until(lambda: blocker.kernel_queue()[0][2] == 0, 60, "all are judged")
        status = blocker.status()
        answered_s = time.monotonic() - began_s
        assert status["queue"]["errors"] == 0
        assert status["bans"]["active"] <= MAX_BANS
        assert (peak_b := _resident_b(blocker)) < MAX_RESIDENT_B
        banned = status["bans"]["active"]
        with Datagrams(other) as datagrams:
            assert datagrams.pass_through(INNOCENT)
            assert not datagrams.pass_through(DHT_PING), "a true one is blocked as ever"
            assert not datagrams.pass_through(INNOCENT), "and banned"
    assert load.stream_is_whole
    assert load.missing <= _backlog_drops() - dropped_before
    print(
        status["queue"],
        status["detections"]["total"],
        status["xdp"],
        load.missing,
        load.sent,
        _backlog_drops() - dropped_before,
    )
    measured(
        f"{load.missing} of {load.sent} innocent datagrams lost; {MILLION:,} sources in "
        f"{took_s:.0f} s, {banned:,} of them banned, {before_b >> 20} MiB resident before and "
        f"{peak_b >> 20} MiB after; caught up after {answered_s:.1f} s"
    )
