"""What a running blocker does to packets: real queue, real XDP, real namespaces."""

from __future__ import annotations

import time

import pytest

from tests.service.traffic import DHT_PING, INNOCENT, Datagrams, tcp_exchange
from tools.lab.addresses import Family
from tools.lab.blocker import run_blocker
from tools.lab.program import wait_until
from tools.lab.topology import Topology

pytestmark = pytest.mark.lab

HANDSHAKE = b"\x13BitTorrent protocol" + bytes(48)
ON_THE_QUEUE_ALONE = ("--xdp-mode", "off")


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("options", [(), ON_THE_QUEUE_ALONE], ids=["xdp", "queue"])
def test_first_telling_datagram_and_all_after_it_are_dropped(
    topology: Topology, family: Family, options: tuple[str, ...]
) -> None:
    with run_blocker(topology, *options) as blocker, Datagrams(topology, family) as datagrams:
        assert datagrams.pass_through()
        assert datagrams.pass_back()
        assert not datagrams.pass_through(DHT_PING)
        assert not datagrams.pass_through(INNOCENT)
        assert not datagrams.pass_back(INNOCENT)
        assert [d.signature for d in blocker.detections()] == ["bittorrent.dht.query"]
        assert blocker.detections()[0].banned == (datagrams.client_address,)


@pytest.mark.parametrize("family", [4, 6])
def test_first_telling_segment_is_dropped(topology: Topology, family: Family) -> None:
    with run_blocker(topology) as blocker:
        assert tcp_exchange(topology, INNOCENT, family) == INNOCENT
        assert tcp_exchange(topology, HANDSHAKE, family) == b""
        assert [d.signature for d in blocker.detections()] == ["bittorrent.peer.handshake"]


def test_xdp_takes_over_from_the_queue(topology: Topology) -> None:
    with run_blocker(topology) as blocker, Datagrams(topology) as datagrams:
        datagrams.pass_through(DHT_PING)
        queued = blocker.kernel_queue()[0][7]
        dropped = blocker.status()["xdp"]["dropped_source"]
        for _ in range(50):
            datagrams.client.sendto(INNOCENT, datagrams.server.getsockname()[:2])
        wait_until(
            lambda: blocker.status()["xdp"]["dropped_source"] >= dropped + 50, 5, "XDP dropped"
        )
        assert blocker.kernel_queue()[0][7] == queued


@pytest.mark.parametrize("options", [(), ON_THE_QUEUE_ALONE], ids=["xdp", "queue"])
def test_a_ban_ends_by_itself(topology: Topology, options: tuple[str, ...]) -> None:
    # The interval between clean-ups is long: the ban must end without one.
    with (
        run_blocker(topology, *options, "--ban-duration", "1") as blocker,
        Datagrams(topology) as banned,
        Datagrams(topology) as other,
    ):
        assert not banned.pass_through(DHT_PING)
        time.sleep(1.1)
        assert other.pass_through()
        assert blocker.status()["bans"]["active"] == 0
        assert not banned.pass_through(), "the flow that told stays dropped"


def test_monitor_only_detects_and_touches_nothing(topology: Topology) -> None:
    with run_blocker(topology, "--monitor-only") as blocker, Datagrams(topology) as datagrams:
        assert datagrams.pass_through(DHT_PING)
        assert datagrams.pass_through(INNOCENT)
        assert tcp_exchange(topology, HANDSHAKE) == HANDSHAKE
        status = blocker.status()
        assert status["detections"]["total"] == 2
        assert status["queue"]["dropped"] == 0
        assert status["bans"]["active"] == 0
        assert all(d.banned == () for d in blocker.detections())
