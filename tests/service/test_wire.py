"""Fragments and tunnels that a router forwards: real packets through the real queue."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator, Sequence

import pytest

from tests.captures import ip
from tests.service.traffic import ARRIVAL_S, DHT_PING, INNOCENT, Datagrams
from tools.lab.blocker import run_blocker
from tools.lab.namespace import call_in
from tools.lab.topology import Family, Topology

pytestmark = pytest.mark.lab

ON_THE_QUEUE_ALONE = ("--xdp-mode", "off")
FRAGMENT_B = 16


def checksum(data: bytes) -> int:
    """RFC 1071."""
    words = struct.unpack(f">{(len(data) + 1) // 2}H", data + bytes(len(data) % 2))
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def udp_body(datagrams: Datagrams, family: Family, payload: bytes) -> bytes:
    """Header, checksum and all: the server's kernel shall take it."""
    sport = datagrams.client.getsockname()[1]
    dport = datagrams.server.getsockname()[1]
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    ends = b"".join(
        socket.inet_pton(kind, a) for a in (datagrams.client_address, datagrams.server_address)
    )
    header = struct.pack(">HHH", sport, dport, 8 + len(payload))
    pseudo = ends + struct.pack(">HH", 17, 8 + len(payload))
    return header + struct.pack(">H", checksum(pseudo + header + bytes(2) + payload)) + payload


def fragments(datagrams: Datagrams, family: Family, payload: bytes) -> Iterator[bytes]:
    """A UDP packet in pieces that tell nothing by themselves (RFC 791, RFC 8200)."""
    body = udp_body(datagrams, family, payload)
    for start in range(0, len(body), FRAGMENT_B):
        piece = body[start : start + FRAGMENT_B]
        more = start + FRAGMENT_B < len(body)
        ends = datagrams.client_address, datagrams.server_address
        if family == 4:
            whole = bytearray(ip(*ends, 17, piece))
            whole[4:6] = b"\x47\x11"
            whole[6:8] = (more << 13 | start // 8).to_bytes(2, "big")
            whole[10:12] = checksum(bytes(whole[:20])).to_bytes(2, "big")
            yield bytes(whole)
        else:
            yield ip(*ends, 44, struct.pack(">BBHI", 17, 0, start | more, 4711) + piece)


@contextlib.contextmanager
def raw(
    namespace: str, family: Family, protocol: int = socket.IPPROTO_RAW
) -> Iterator[socket.socket]:
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    with call_in(namespace, lambda: socket.socket(kind, socket.SOCK_RAW, protocol)) as made:
        made.settimeout(ARRIVAL_S)
        yield made


def arrives(
    topology: Topology,
    family: Family,
    datagrams: Datagrams,
    packets: Sequence[bytes],
    payload: bytes,
) -> bool:
    """Whether IP packets from the client bring a payload to the server's UDP socket."""
    with raw(topology.client.name, family) as sender:
        for packet in packets:
            sender.sendto(packet, (datagrams.server_address, 0))
    with contextlib.suppress(TimeoutError):
        return datagrams.server.recv(4096) == payload
    return False


@pytest.mark.parametrize("family", [4, 6])
def test_fragments_are_inspected_as_a_whole(topology: Topology, family: Family) -> None:
    with (
        run_blocker(topology, *ON_THE_QUEUE_ALONE) as blocker,
        Datagrams(topology, family) as datagrams,
    ):
        for payload, passes in ((INNOCENT * 4, True), (DHT_PING, False)):
            pieces = list(fragments(datagrams, family, payload))
            assert len(pieces) > 3
            assert arrives(topology, family, datagrams, pieces, payload) is passes
        assert [d.signature for d in blocker.detections()] == ["bittorrent.dht.query"]


@pytest.mark.parametrize("family", [4, 6])
def test_without_defragmentation_fragments_pass(topology: Topology, family: Family) -> None:
    options = (*ON_THE_QUEUE_ALONE, "--no-defragment")
    with run_blocker(topology, *options) as blocker, Datagrams(topology, family) as datagrams:
        pieces = list(fragments(datagrams, family, DHT_PING))
        assert arrives(topology, family, datagrams, pieces, DHT_PING)
        assert blocker.detections() == []


INNER = {4: ("192.168.7.1", "192.168.7.2"), 6: ("fd00::1", "fd00::2")}


def inside(family: Family, protocol: int, payload: bytes) -> bytes:
    """A UDP packet between private hosts, as the body of a tunnel's packet."""
    kind: Family = 6 if protocol == 41 else 4
    header = struct.pack(">HHHH", 5000, 6000, 8 + len(payload), 0)
    packet = ip(*INNER[kind], 17, header + payload)
    return b"\x00\x00\x08\x00" + packet if protocol == 47 else packet


@contextlib.contextmanager
def tunnel(
    topology: Topology, family: Family, protocol: int
) -> Iterator[tuple[socket.socket, ...]]:
    with (
        raw(topology.client.name, family, protocol) as sender,
        raw(topology.server.name, family, protocol) as receiver,
    ):
        yield sender, receiver


def comes_out(
    ends: tuple[socket.socket, ...], topology: Topology, family: Family, body: bytes
) -> bool:
    sender, receiver = ends
    sender.sendto(body, (topology.server_address(family), 0))
    with contextlib.suppress(TimeoutError):
        while not receiver.recv(4096).endswith(body):
            pass
        return True
    return False


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("protocol", [4, 41, 47], ids=["IPv4", "IPv6", "GRE"])
def test_tunnels_are_looked_into_and_nobody_is_banned(
    topology: Topology, family: Family, protocol: int
) -> None:
    with (
        run_blocker(topology) as blocker,
        tunnel(topology, family, protocol) as ends,
        Datagrams(topology, family) as datagrams,
    ):
        assert comes_out(ends, topology, family, inside(family, protocol, INNOCENT))
        assert not comes_out(ends, topology, family, inside(family, protocol, DHT_PING))
        assert not comes_out(ends, topology, family, inside(family, protocol, INNOCENT))
        (detection,) = blocker.detections()
        assert detection.signature == "bittorrent.dht.query"
        assert detection.source == ("[fd00::1]:5000" if protocol == 41 else "192.168.7.1:5000")
        assert detection.banned == ()
        assert datagrams.pass_through()


def test_tunnels_may_be_left_alone(topology: Topology) -> None:
    options = (*ON_THE_QUEUE_ALONE, "--no-tunnels")
    with run_blocker(topology, *options) as blocker, tunnel(topology, 4, 47) as ends:
        assert comes_out(ends, topology, 4, inside(4, 47, DHT_PING))
        assert blocker.detections() == []
