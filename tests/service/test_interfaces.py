"""Interfaces that come late, go, and come back."""

from __future__ import annotations

from typing import Any

import pytest

from engine.service.interfaces import chosen_interfaces
from tests.netns import Namespace, connect
from tests.service.commands import btblocker
from tests.service.traffic import DHT_PING, Datagrams
from tools.lab.blocker import Blocker, run_blocker
from tools.lab.program import wait_until
from tools.lab.topology import LAN_INTERFACE, Topology

pytestmark = pytest.mark.lab

LATE = "late0"


def _watched(blocker: Blocker) -> set[str]:
    return {each["name"] for each in blocker.status()["xdp"]["interfaces"]}


def _troubles(blocker: Blocker) -> list[tuple[str, bool]]:
    events: list[dict[str, Any]] = blocker.events()
    return [(e["message"], e["over"]) for e in events if e["event"] == "trouble"]


def _pair(topology: Topology) -> None:
    """An interface of the router's that its own stack sends to."""
    router = topology.router
    router.run(["ip", "link", "add", LATE, "type", "veth", "peer", "name", "far0"])
    for name in (LATE, "far0"):
        router.run(["ip", "link", "set", "dev", name, "up"])


def _on_late(topology: Topology) -> str:
    return topology.router.run(["ip", "-details", "link", "show", "dev", LATE]).stdout


def test_an_interface_comes_late_goes_and_comes_back(topology: Topology) -> None:
    with (
        # There is no BPF file system to keep XDP in: that is told, and all goes on.
        run_blocker(topology, "--keep-xdp", interfaces=(LAN_INTERFACE, LATE)) as blocker,
        Datagrams(topology) as datagrams,
    ):
        assert _watched(blocker) == {LAN_INTERFACE}
        (unkept, _), (missing, over) = _troubles(blocker)
        assert "mount -t bpf bpf /sys/fs/bpf" in unkept
        assert f"there is no interface `{LATE}`; there are: " in missing
        assert LAN_INTERFACE in missing
        assert not over
        assert f"waiting for {LATE}" in blocker.program.log.read_text()
        assert not datagrams.pass_through(DHT_PING)

        _pair(topology)
        wait_until(lambda: LATE in _watched(blocker), 10, "XDP is on it")
        wait_until(lambda: len(_troubles(blocker)) == 3, 5, "told")
        assert _troubles(blocker)[2] == (f"XDP native is on {LATE} now", True)
        topology.router.run(["ip", "link", "delete", "dev", LATE])
        wait_until(lambda: LATE not in _watched(blocker), 10, "it is gone")

        _pair(topology)
        wait_until(lambda: LATE in _watched(blocker), 10, "XDP is on it again")
        assert "prog/xdp" in _on_late(topology)
        assert [over for _, over in _troubles(blocker)[1:]] == [False, True, False, True]
        assert btblocker(topology, "unban", datagrams.client_address).returncode == 0
    assert "prog/xdp" not in _on_late(topology)


def test_none_named_means_those_with_a_default_route_by_many_ways_too() -> None:
    with Namespace("ways") as namespace:
        for name, address in (("one", "10.1.0.1/24"), ("two", "10.2.0.1/24")):
            connect(namespace, name, namespace, f"far-{name}")
            namespace.add_address(name, address)
        everything = {"one", "two", "far-one", "far-two"}
        assert set(namespace.call(lambda: chosen_interfaces(()))) == everything
        hops = ["nexthop", "via", "10.1.0.9", "nexthop", "via", "10.2.0.9"]
        namespace.run(["ip", "route", "add", "default", *hops])
        assert set(namespace.call(lambda: chosen_interfaces(()))) == {"one", "two"}
        assert namespace.call(lambda: chosen_interfaces(("wg9",))) == ("wg9",)
