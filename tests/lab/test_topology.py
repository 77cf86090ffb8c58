from __future__ import annotations

import os
from pathlib import Path

import pytest

from tools.lab.addresses import Family
from tools.lab.program import LabError
from tools.lab.topology import HOST_INTERFACE, Topology

pytestmark = pytest.mark.lab

LISTEN = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
with socket.socket(family) as server:
    server.bind((sys.argv[1], 4000))
    server.listen()
    server.accept()[0].sendall(b"through the router")
"""
FETCH = """
import socket, sys
print(socket.create_connection((sys.argv[1], 4000), 5).makefile().read())
"""


def leftovers(topology: Topology) -> list[str]:
    """What a topology may have forgotten: namespaces, folders, programs."""
    names = [each.name for each in (topology.client, topology.router, topology.server)]
    left = [f"{root}/{name}" for root in ("/run/netns", "/etc/netns") for name in names]
    return [path for path in (*left, str(topology.folder)) if Path(path).exists()]


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("number", [1, 2])
def test_routes_both_families_on_each_line(family: Family, number: int) -> None:
    with Topology((4, 6), (4, 6)) as topology:
        line = topology.lines[number - 1]
        address = line.server_address(family)
        program = line.spawn(
            line.server, ["/usr/bin/python3", "-c", LISTEN, address], name="listener"
        )
        program.wait_for(lambda: program.listens("tcp", 4000), 5)
        fetched = line.client.run(["/usr/bin/python3", "-c", FETCH, address])
    assert fetched.stdout.strip() == "through the router"


def test_has_only_the_families_asked_for() -> None:
    with Topology([6]) as topology:
        addresses = topology.client.run(["ip", "-4", "addr", "show", "dev", HOST_INTERFACE])
    assert addresses.stdout == ""


def test_turns_offloads_off() -> None:
    with Topology([4], offloads=False) as topology:
        features = topology.client.run(["ethtool", "-k", HOST_INTERFACE]).stdout
    assert "tcp-segmentation-offload: off" in features
    assert "generic-receive-offload: off" in features


def test_leaves_nothing_behind_after_a_failure() -> None:
    with pytest.raises(ZeroDivisionError), Topology() as topology:
        topology.set_hosts(topology.client, {"tracker.example": ["10.77.2.2"]})
        stubborn = topology.spawn(
            topology.router,
            ["sh", "-c", "trap '' TERM; while :; do sleep 1; done"],
            name="stubborn",
        )
        hosts = topology.client.run(["cat", "/etc/hosts"]).stdout
        assert "10.77.2.2 tracker.example" in hosts
        _ = 1 / 0
    assert leftovers(topology) == []
    with pytest.raises(ProcessLookupError):
        os.kill(stubborn.process.pid, 0)


def test_tells_what_a_program_said_before_it_ended() -> None:
    with Topology([4]) as topology:
        program = topology.spawn(topology.server, ["sh", "-c", "echo no torrent; exit 3"], name="x")
        with pytest.raises(LabError, match="x ended with 3: no torrent"):
            program.wait_for(lambda: False, 5)
