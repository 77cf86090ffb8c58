"""Packets made by hand, where a socket would not send what a test wants to send."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from tests.enforce.conftest import wire

ETHERTYPES = {4: 0x0800, 6: 0x86DD}


def ip_udp(source: str, destination: str, port: int, payload: bytes) -> bytes:
    """An IP packet with a UDP datagram; its checksum is left out over IPv4, right over IPv6."""
    udp_length = 8 + len(payload)
    ports = struct.pack("!HH", port, port)
    addresses = wire(source) + wire(destination)
    if ":" in source:
        pseudo = addresses + struct.pack("!II", udp_length, 17)
        length = struct.pack("!H", udp_length)
        checksum = _checksum(pseudo + ports + length + b"\0\0" + payload) or 0xFFFF
        datagram = ports + length + struct.pack("!H", checksum) + payload
        return struct.pack("!IHBB", 6 << 28, udp_length, 17, 64) + addresses + datagram
    datagram = ports + struct.pack("!HH", udp_length, 0) + payload
    start = struct.pack("!BBHHHBB", 0x45, 0, 20 + udp_length, 0, 0, 64, 17)
    header = start + struct.pack("!H", _checksum(start + b"\0\0" + addresses)) + addresses
    return header + datagram


def ethernet(packet: bytes, tags: Sequence[int] = (), *, to: bytes = b"\xff" * 6) -> bytes:
    """A frame around an IP packet. `tags` are the VLAN ethertypes, the outer one first."""
    frame = to + b"\x02\0\0\0\0\x01"
    for vlan, tag in enumerate(tags, start=1):
        frame += struct.pack("!HH", tag, vlan)
    return frame + struct.pack("!H", ETHERTYPES[packet[0] >> 4]) + packet


def _checksum(data: bytes) -> int:
    """RFC 1071."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
