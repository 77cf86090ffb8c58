"""Captures and packets built from their formats, byte by byte."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable

ETHERNET, RAW = 1, 101
ADDRESSES = b"\x02\0\0\0\0\x01\x02\0\0\0\0\x02"


def ip(source: str, destination: str, protocol: int, body: bytes) -> bytes:
    """An IPv4 or IPv6 datagram; checksums stay 0, as cards leave them."""
    ends = ipaddress.ip_address(source).packed + ipaddress.ip_address(destination).packed
    if len(ends) == 8:
        return struct.pack(">BBHIBBH", 0x45, 0, 20 + len(body), 0, 64, protocol, 0) + ends + body
    return struct.pack(">IHBB", 6 << 28, len(body), protocol, 64) + ends + body


def udp(source: str, sport: int, destination: str, dport: int, payload: bytes) -> bytes:
    header = struct.pack(">HHHH", sport, dport, 8 + len(payload), 0)
    return ip(source, destination, 17, header + payload)


def tcp(
    source: str,
    sport: int,
    destination: str,
    dport: int,
    payload: bytes,
    sequence: int = 1,
    *,
    flags: int = 0x18,
    acknowledgement: int = 1,
) -> bytes:
    numbers = sport, dport, sequence, acknowledgement
    header = struct.pack(">HHIIBBHHH", *numbers, 0x50, flags, 0xFFFF, 0, 0)
    return ip(source, destination, 6, header + payload)


def ethernet(datagram: bytes) -> bytes:
    kind = 0x0800 if datagram[0] >> 4 == 4 else 0x86DD
    return ADDRESSES + kind.to_bytes(2, "big") + datagram


def pcap(
    frames: Iterable[bytes],
    link_type: int = ETHERNET,
    *,
    order: str = "<",
    nanoseconds: bool = False,
    snaplen: int = 262144,
) -> bytes:
    """Frames one microsecond (or nanosecond) apart, from 1000 s on."""
    magic = 0xA1B23C4D if nanoseconds else 0xA1B2C3D4
    out = [struct.pack(order + "IHHIIII", magic, 2, 4, 0, 0, snaplen, link_type)]
    for number, frame in enumerate(frames):
        out += [struct.pack(order + "IIII", 1000, number, len(frame), len(frame)), frame]
    return b"".join(out)


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    body += bytes(-len(body) % 4)
    length = struct.pack(order + "I", 12 + len(body))
    return struct.pack(order + "I", kind) + length + body + length


def section(order: str = "<") -> bytes:
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def option(code: int, value: bytes, order: str = "<") -> bytes:
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def interface(
    link_type: int = ETHERNET, options: bytes = b"", order: str = "<", snaplen: int = 0
) -> bytes:
    return block(1, struct.pack(order + "HHI", link_type, 0, snaplen) + options, order)


def enhanced(frame: bytes, time: int = 0, number: int = 0, order: str = "<") -> bytes:
    head = struct.pack(
        order + "IIIII", number, time >> 32, time & 0xFFFFFFFF, len(frame), len(frame)
    )
    return block(6, head + frame, order)
