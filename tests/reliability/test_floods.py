"""A million forged sources, a million mutated packets."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.enforce.program import DEFAULT_CAPACITY
from tests.reliability.conftest import Measured
from tests.reliability.mutations import INNOCENT_EVERY
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
    with (
        run_blocker(topology, *limits) as blocker,
        Datagrams(other, 6) as banned,
        Datagrams(other) as datagrams,
    ):
        assert not banned.pass_through(DHT_PING)
        before_b, dropped_before = _resident_b(blocker), _backlog_drops()
        with Load(other, probes=False) as through:
            began_s = time.monotonic()
            forge = start_forging(
                flooded, DHT_PING, sources=MILLION, count=MILLION, per_second=FORGED_A_SECOND
            )
            assert forge.process.wait(120) == 0
            took_s = time.monotonic() - began_s
            began_s = time.monotonic()
            wait_until(lambda: blocker.kernel_queue()[0][2] == 0, 60, "all are judged")
            status = blocker.status()
            answered_s = time.monotonic() - began_s
        assert (status["queue"]["errors"], status["queue"]["user_dropped"]) == (0, 0)
        assert 1 < status["bans"]["active"] <= DEFAULT_CAPACITY
        after_b = _resident_b(blocker)
        assert after_b < MAX_RESIDENT_B
        assert not banned.pass_through(INNOCENT), "who was banned before is still"
        assert datagrams.pass_through(INNOCENT)
        assert not datagrams.pass_through(DHT_PING), "a true one is blocked as ever"
    assert through.stream_is_whole
    assert through.missing <= _backlog_drops() - dropped_before
    measured(
        f"{through.missing} of {through.sent} innocent datagrams lost; {MILLION:,} sources in "
        f"{took_s:.0f} s, {status['bans']['active']:,} of them banned, {before_b >> 20} MiB "
        f"resident before and {after_b >> 20} MiB after; caught up after {answered_s:.1f} s"
    )


def test_a_million_mutated_packets(measured: Measured) -> None:
    """Made of the signatures' own examples; the seeds are fixed."""
    began_s = time.monotonic()
    command = [sys.executable, "-m", "tests.reliability.mutations"]
    processes = [
        subprocess.Popen([*command, seed, str(MILLION // 2)], stdout=subprocess.PIPE, text=True)
        for seed in ("1", "2")
    ]
    try:
        said = [process.communicate(timeout=280)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "nothing raised"
    found = [json.loads(line) for line in said]
    detected = sum(each["detected"] for each in found)
    assert detected > 1000, "they are like enough to what is looked for"
    assert [each["harmed"] for each in found] == [0, 0]
    most_b = max(each["resident_b"] for each in found)
    assert most_b < MAX_RESIDENT_B
    measured(
        f"0 of {MILLION // INNOCENT_EVERY:,} innocent packets between them dropped; nothing "
        f"raised, {detected:,} detections, {most_b >> 20} MiB, in "
        f"{time.monotonic() - began_s:.0f} s"
    )
