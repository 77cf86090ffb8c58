"""Marks of real connections through a router, translated addresses included."""

from __future__ import annotations

import contextlib
import shlex
import socket
from collections.abc import Iterator

import pytest

from engine.enforce.connmark import ConnectionMarks, MarkBits
from engine.inspect.packet import TCP, reverse
from tools.lab.namespace import call_in
from tools.lab.topology import Topology

BITS = MarkBits.of(0x70)
OTHERS = 0x700
SOURCE = "-t nat -A POSTROUTING -p tcp -j MASQUERADE"
DESTINATION = "-t nat -A PREROUTING -p tcp --dport 4711 -j DNAT --to-destination"


@pytest.fixture
def topology() -> Iterator[Topology]:
    with Topology((4,)) as made:
        yield made


def test_the_bits_of_a_mask_from_the_lowest_on() -> None:
    assert MarkBits.of(0x80000101) == MarkBits(original=1, reply=0x100, refused=0x80000000)
    assert MarkBits.of(0x70).mask == 0x70


@contextlib.contextmanager
def connected(topology: Topology, to: tuple[str, int], port: int) -> Iterator[bytes]:
    """A connection to a port of the server's; gives its key behind the router's prerouting."""
    server = topology.server_address(4)
    with (
        call_in(topology.server.name, socket.socket) as listener,
        call_in(topology.client.name, socket.socket) as client,
    ):
        listener.bind((server, port))
        listener.listen()
        client.settimeout(5)
        client.connect(to)
        address, client_port = client.getsockname()
        ports = client_port.to_bytes(2, "big") + port.to_bytes(2, "big")
        yield socket.inet_aton(address) + socket.inet_aton(server) + ports


def mark(topology: Topology, key: bytes) -> int:
    port = int.from_bytes(key[8:10], "big")
    table = topology.router.run(["cat", "/proc/net/nf_conntrack"]).stdout
    (line,) = [line for line in table.splitlines() if f"sport={port} " in line]
    return next(int(word[5:]) for word in line.split() if word.startswith("mark="))


@pytest.mark.lab
@pytest.mark.parametrize("rules", [(), (SOURCE,), (DESTINATION,), (SOURCE, DESTINATION)])
def test_connections_are_found_by_packets_of_both_directions(
    topology: Topology, rules: tuple[str, ...]
) -> None:
    server = topology.server_address(4)
    for rule in ("-A FORWARD -m conntrack --ctstate NEW", *rules):
        to = f" {server}:4712" if rule == DESTINATION else ""
        topology.router.run(["iptables", *shlex.split(rule + to)])
    others = "-t mangle -A PREROUTING -m conntrack --ctstate NEW -j CONNMARK --set-mark 0x700"
    topology.router.run(["iptables", *shlex.split(others)])
    marks = call_in(topology.router.name, lambda: ConnectionMarks(BITS))
    translated = DESTINATION in rules
    with (
        contextlib.closing(marks),
        connected(topology, (server, 4711 if translated else 4712), 4712) as key,
    ):
        if len(rules) == 2:  # nothing in the packet is as the kernel remembers it
            assert not marks.release(key, TCP)
            assert not marks.refuse(reverse(key), TCP)
            return
        assert marks.release(key, TCP)
        assert mark(topology, key) == OTHERS | BITS.reply
        assert marks.release(reverse(key), TCP)
        assert mark(topology, key) == OTHERS | BITS.reply | BITS.original
        marks.forget_released({socket.inet_aton("192.0.2.1")})
        marks.forget_refused()
        assert mark(topology, key) == OTHERS | BITS.reply | BITS.original
        marks.forget_released({socket.inet_aton(server) + b"\x12\x34"})
        assert mark(topology, key) == OTHERS
        assert marks.refuse(reverse(key), TCP)
        marks.forget_released()
        assert mark(topology, key) == OTHERS | BITS.refused
        marks.forget_refused()
        assert mark(topology, key) == OTHERS
        assert not marks.refuse(key[:8] + key[10:] + key[8:10], TCP), "no such connection"
