"""What the XDP program does to packets, on real interfaces of each kind and mode."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import random
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_network

import pytest

from engine.enforce.marks import mark_of
from tests.enforce.conftest import FilterProcess, monotonic_in, wait_until, wire
from tests.enforce.frames import ethernet, ip_udp
from tests.netns import Namespace, connect

pytestmark = pytest.mark.lab

PORT = 9999
GATE = {4: "10.77.0.1", 6: "fd77::1"}
GUILTY = {4: "10.77.0.66", 6: "fd77::66"}
INNOCENT = {4: "10.77.0.67", 6: "fd77::67"}
TUN_GATE = {4: "10.78.0.1", 6: "fd78::1"}

FAMILIES = pytest.mark.parametrize("version", [4, 6])
NEVER_NS = 2**63


@dataclass(frozen=True)
class Site:
    """A sender joined to a gate that carries the filter, and the gate's receivers."""

    sender: Namespace
    gate: Namespace
    xdp: FilterProcess
    receivers: dict[int, socket.socket]

    def arrives(self, source: str, destination: str) -> bool:
        """Send one datagram; True if it came through, False if XDP counted a drop."""
        version = 6 if ":" in source else 4
        family = socket.AF_INET6 if version == 6 else socket.AF_INET
        payload = os.urandom(16)
        before = self.dropped()
        with self.sender.call(lambda: socket.socket(family, socket.SOCK_DGRAM)) as out:
            out.bind((source, 0))
            out.sendto(payload, (destination, PORT))
        return self.arrived(self.receivers[version], payload, before)

    def arrived(self, receiver: socket.socket, payload: bytes, dropped_before: int) -> bool:
        received: list[bytes] = []

        def decided() -> bool:
            try:
                received.append(receiver.recv(2048))
            except BlockingIOError:
                return self.dropped() > dropped_before
            return True

        assert wait_until(decided), "the packet neither arrived nor was dropped"
        assert received in ([], [payload])
        return bool(received)

    def dropped(self) -> int:
        counters = self.xdp.counters()
        return counters.dropped_source + counters.dropped_destination


@pytest.fixture(scope="module", params=["native", "generic"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    with Namespace("sender") as sender, Namespace("gate") as gate:
        join(sender, gate)
        receivers = {4: receiver(gate, socket.AF_INET), 6: receiver(gate, socket.AF_INET6)}
        xdp = FilterProcess(gate, "wan", request.param)
        assert [(at["interface"], at["mode"]) for at in xdp.attachments] == [
            ("wan", request.param)
        ], xdp.refusal
        yield Site(sender, gate, xdp, receivers)
        assert xdp.close() == ""
        for each in receivers.values():
            each.close()


def join(sender: Namespace, gate: Namespace) -> None:
    connect(sender, "uplink", gate, "wan")
    wan = json.loads(gate.run(["ip", "-j", "link", "show", "dev", "wan"]).stdout)[0]
    for version, prefix in ((4, 24), (6, 64)):
        gate.add_address("wan", f"{GATE[version]}/{prefix}")
        for address in (GUILTY[version], INNOCENT[version]):
            sender.add_address("uplink", f"{address}/{prefix}")
        # No neighbour discovery from a banned address between the packets we count.
        neighbour = f"{GATE[version]} lladdr {wan['address']} dev uplink nud permanent"
        sender.run(["ip", "neighbour", "replace", *neighbour.split()])


def receiver(namespace: Namespace, family: socket.AddressFamily) -> socket.socket:
    sock = namespace.call(lambda: socket.socket(family, socket.SOCK_DGRAM))
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind(("", PORT))
    sock.setblocking(False)
    return sock


@FAMILIES
def test_a_banned_source_is_dropped_until_it_is_unbanned(site: Site, version: int) -> None:
    guilty, gate = GUILTY[version], GATE[version]
    assert site.arrives(guilty, gate)
    before = site.xdp.counters()

    site.xdp.ban(guilty, NEVER_NS)
    assert not site.arrives(guilty, gate)
    assert site.arrives(INNOCENT[version], gate)
    after = site.xdp.counters()
    assert after.dropped_source == before.dropped_source + 1
    assert after.dropped_destination == before.dropped_destination
    assert after.passed > before.passed

    assert site.xdp.unban(guilty)
    assert not site.xdp.unban(guilty)
    assert site.arrives(guilty, gate)


@FAMILIES
def test_a_banned_destination_is_dropped(site: Site, version: int) -> None:
    before = site.xdp.counters()
    site.xdp.ban(GATE[version], NEVER_NS)
    assert not site.arrives(INNOCENT[version], GATE[version])
    after = site.xdp.counters()
    assert after.dropped_destination == before.dropped_destination + 1
    assert after.dropped_source == before.dropped_source
    site.xdp.unban(GATE[version])
    assert site.arrives(INNOCENT[version], GATE[version])


@FAMILIES
def test_an_expired_ban_passes_while_it_is_still_in_the_map(site: Site, version: int) -> None:
    guilty, gate = GUILTY[version], GATE[version]
    expires_ns = monotonic_in(1)
    site.xdp.ban(guilty, NEVER_NS)
    assert not site.arrives(guilty, gate)
    site.xdp.ban(guilty, expires_ns)
    assert wait_until(lambda: site.arrives(guilty, gate))
    assert monotonic_in(0) >= expires_ns
    assert site.xdp.banned() == {socket.inet_pton(_family(version), guilty): expires_ns}
    site.xdp.unban(guilty)


@FAMILIES
def test_a_ban_counts_what_it_drops_and_a_renewal_goes_on_counting(
    site: Site, version: int
) -> None:
    guilty, gate = GUILTY[version], GATE[version]
    length = len(ip_udp(guilty, gate, PORT, bytes(16)))
    site.xdp.ban(guilty, NEVER_NS)
    assert site.xdp.hits(guilty) == (0, 0)
    for _ in range(3):
        assert not site.arrives(guilty, gate)
    assert site.xdp.hits(guilty) == (3, 3 * length)
    site.xdp.ban(guilty, NEVER_NS - 1)
    assert not site.arrives(guilty, gate)
    assert site.xdp.hits(guilty) == (4, 4 * length)
    site.xdp.unban(guilty)


@FAMILIES
def test_no_ban_applies_to_what_is_allowed(site: Site, version: int) -> None:
    guilty, gate = GUILTY[version], GATE[version]
    site.xdp.ban(guilty, NEVER_NS)
    site.xdp.allow_only({4: "10.77.0.64/30", 6: "fd77::60/124"}[version])
    assert site.arrives(guilty, gate)
    site.xdp.allow_only({4: "10.77.0.67/32", 6: "fd77::67/128"}[version])
    assert not site.arrives(guilty, gate)
    site.xdp.allow_only()
    site.xdp.unban(guilty)


@FAMILIES
def test_who_is_let_alone_speaks_with_the_banned(site: Site, version: int) -> None:
    guilty, gate = GUILTY[version], GATE[version]
    bits = {4: 24, 6: 64}[version]
    everybody = str(ip_network(f"{gate}/{bits}", strict=False))
    site.xdp.ban(guilty, NEVER_NS)
    site.xdp.allow_only(gate)
    assert not site.arrives(guilty, gate), "the machine's own address alone opens nothing"
    site.xdp.allow_only(gate, let_alone=(gate,))
    assert site.arrives(guilty, gate)
    site.xdp.allow_only(gate, let_alone=(everybody,))
    assert site.arrives(guilty, gate), "the longer prefix knows of the shorter"
    site.xdp.allow_only(gate)
    assert not site.arrives(guilty, gate)
    site.xdp.allow_only()
    site.xdp.unban(guilty)


def test_bans_of_addresses_with_one_mark_end_one_by_one(site: Site) -> None:
    """They share what tells the program to look for a ban: a byte by a hash of the address."""
    alike = [GUILTY[4], address_marked_like(GUILTY[4])]
    for address in alike:
        site.xdp.ban(address, NEVER_NS)
    site.xdp.unban(alike[1])
    assert not site.arrives(GUILTY[4], GATE[4])
    site.xdp.unban(alike[0])
    assert site.arrives(GUILTY[4], GATE[4])


def address_marked_like(address: str) -> str:
    mark = mark_of(wire(address))
    return next(
        socket.inet_ntoa(struct.pack("!I", other))
        for other in itertools.count(0x0B000000)
        if mark_of(struct.pack("!I", other)) == mark
    )


@FAMILIES
@pytest.mark.parametrize("tags", [(0x8100,), (0x88A8,), (0x88A8, 0x8100), (0x8100, 0x8100)])
def test_a_ban_covers_what_is_inside_vlan_tags(
    site: Site, version: int, tags: tuple[int, ...]
) -> None:
    guilty, innocent, gate = GUILTY[version], INNOCENT[version], GATE[version]
    before = site.xdp.counters()
    site.xdp.ban(guilty, NEVER_NS)
    send_frames(
        site.sender,
        [ethernet(ip_udp(source, gate, PORT, b""), tags) for source in (innocent, guilty)],
    )
    assert wait_until(lambda: site.xdp.counters().dropped_source > before.dropped_source)
    assert site.dropped() == before.dropped_source + before.dropped_destination + 1
    site.xdp.unban(guilty)


@FAMILIES
def test_what_cannot_be_parsed_passes(site: Site, version: int) -> None:
    guilty, gate = GUILTY[version], GATE[version]
    site.xdp.ban(guilty, NEVER_NS)
    packet = ip_udp(guilty, gate, PORT, b"")
    header_bytes = 20 if version == 4 else 40
    truncated = [ethernet(packet[:length]) for length in range(1, header_bytes)]
    tagged_too_often = [ethernet(packet, (0x8100,) * 3)]
    randomness = random.Random(version)
    noise = [randomness.randbytes(randomness.randrange(14, 200)) for _ in range(300)]
    behind_ethertype = [
        ethernet(packet)[:12] + struct.pack("!H", ethertype) + randomness.randbytes(length)
        for ethertype in (0x0800, 0x86DD, 0x8100, 0x88A8)
        for length in range(60)
    ]
    frames = truncated + tagged_too_often + noise + behind_ethertype

    before = site.xdp.counters()
    send_frames(site.sender, frames)
    assert wait_until(lambda: site.xdp.counters().passed >= before.passed + len(frames))
    assert site.dropped() == before.dropped_source + before.dropped_destination
    assert not site.arrives(guilty, gate)
    site.xdp.unban(guilty)


def test_one_ban_covers_an_ethernet_and_a_headerless_interface() -> None:
    with Namespace("sender") as sender, Namespace("gate") as gate:
        join(sender, gate)
        tun = open_tun(gate, "tun0")
        for version, prefix in ((4, 24), (6, 64)):
            gate.add_address("tun0", f"{TUN_GATE[version]}/{prefix}")
        # The source of a packet from the tunnel must be reached through the tunnel.
        outside = {4: "10.78.0.66", 6: "fd78::66"}
        innocent = {4: "10.78.0.67", 6: "fd78::67"}
        receivers = {4: receiver(gate, socket.AF_INET), 6: receiver(gate, socket.AF_INET6)}
        xdp = FilterProcess(gate, "wan,tun0", "auto")
        assert [(at["interface"], at["mode"]) for at in xdp.attachments] == [
            ("wan", "native"),
            ("tun0", "generic"),
        ], xdp.refusal
        site = Site(sender, gate, xdp, receivers)

        def arrives_by_tunnel(source: str, destination: str) -> bool:
            payload = os.urandom(16)
            before = site.dropped()
            packet = ip_udp(source, destination, PORT, payload)
            os.write(tun, tun_packet(packet))
            return site.arrived(receivers[packet[0] >> 4], payload, before)

        try:
            for version in (4, 6):
                assert arrives_by_tunnel(outside[version], TUN_GATE[version])
                xdp.ban(outside[version], NEVER_NS)
                assert not arrives_by_tunnel(outside[version], TUN_GATE[version])
                assert arrives_by_tunnel(innocent[version], TUN_GATE[version])
                # The same map serves both interfaces, in both directions of a flow.
                xdp.ban(GUILTY[version], NEVER_NS)
                assert not site.arrives(GUILTY[version], GATE[version])
                xdp.ban(TUN_GATE[version], NEVER_NS)
                assert not arrives_by_tunnel(innocent[version], TUN_GATE[version])

            before = xdp.counters()
            randomness = random.Random(7)
            noise = [
                bytes([nibble << 4]) + randomness.randbytes(length)
                for nibble, length in itertools.product(range(16), range(25))
            ]
            for packet in noise:
                os.write(tun, tun_packet(packet))
            assert wait_until(lambda: xdp.counters().passed >= before.passed + len(noise))
            assert site.dropped() == before.dropped_source + before.dropped_destination
        finally:
            os.close(tun)
            for each in receivers.values():
                each.close()
        # The interface is gone: detaching from it must not fail.
        assert xdp.close() == ""
        assert xdp.process.returncode == 0


def send_frames(namespace: Namespace, frames: list[bytes]) -> None:
    with namespace.call(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)) as out:
        out.bind(("uplink", 0))
        for frame in frames:
            out.send(frame)


def open_tun(namespace: Namespace, name: str) -> int:
    """A TUN device that is up; it goes away with the file descriptor."""
    tunsetiff, iff_tun = 0x400454CA, 0x0001

    def create() -> int:
        tun = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(tun, tunsetiff, struct.pack("16sH22x", name.encode(), iff_tun))
        return tun

    tun = namespace.call(create)
    namespace.run(["ip", "link", "set", name, "up"])
    return tun


def tun_packet(packet: bytes) -> bytes:
    """With the kernel's struct tun_pi, which lets it take packets of any content."""
    return struct.pack("!HH", 0, 0x86DD if packet[0] >> 4 == 6 else 0x0800) + packet


def _family(version: int) -> socket.AddressFamily:
    return socket.AF_INET6 if version == 6 else socket.AF_INET
