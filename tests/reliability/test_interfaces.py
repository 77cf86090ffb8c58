"""Interfaces that go away under load, and come back."""

from __future__ import annotations

import pytest

from tests.reliability.conftest import Measured
from tests.service.load import Load
from tests.service.traffic import DHT_PING, INNOCENT, Datagrams
from tools.lab.blocker import Blocker, run_blocker
from tools.lab.program import wait_until
from tools.lab.topology import HOST_INTERFACE, Line, Topology

pytestmark = pytest.mark.lab


def _watched(blocker: Blocker) -> set[str]:
    return {each["name"] for each in blocker.status()["xdp"]["interfaces"]}


def _add_again(line: Line) -> None:
    """Make the client's link anew, as it was."""
    gateway, client = line.addresses.gateways(4)[0], line.client_address(4)
    line.router.run(
        [
            *("ip", "link", "add", line.lan_interface, "type", "veth"),
            *("peer", "name", HOST_INTERFACE, "netns", line.client.name),
        ]
    )
    for where, name, address in (
        (line.router, line.lan_interface, gateway),
        (line.client, HOST_INTERFACE, client),
    ):
        where.run(["ip", "address", "add", f"{address}/24", "dev", name])
        where.run(["ip", "link", "set", name, "up"])
    line.client.run(["ip", "route", "add", "default", "via", gateway])


def test_an_interface_goes_and_comes_back(topology: Topology, measured: Measured) -> None:
    steady, shaken = topology.lines
    with (
        run_blocker(topology, "--ban", "none") as blocker,
        Load(steady) as load,
        Datagrams(shaken) as datagrams,
    ):
        assert datagrams.pass_through()
        topology.router.run(["ip", "link", "delete", shaken.lan_interface])
        assert load.blocks(), "on the others all goes on"
        wait_until(lambda: shaken.lan_interface not in _watched(blocker), 20, "it is gone")
        _add_again(shaken)
        with Datagrams(shaken) as again:
            wait_until(lambda: again.pass_through(INNOCENT), 10, "the link is back")
            assert not again.pass_through(DHT_PING), "inspected like before"
        wait_until(lambda: shaken.lan_interface in _watched(blocker), 20, "XDP is on it again")
        assert load.blocks()
        queue = blocker.status()["queue"]
        assert (queue["queue_dropped"], queue["user_dropped"], queue["errors"]) == (0, 0, 0)
    assert (load.missing, load.stream_is_whole) == (0, True)
    measured(
        f"0 of {load.sent} innocent datagrams on the other interfaces lost; the first packet on "
        "the new one is inspected"
    )
