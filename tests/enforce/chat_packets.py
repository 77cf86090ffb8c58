"""A signature for the driver, and packets that it is to drop or not."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from engine.language.document import Signature
from tests.captures import tcp
from tests.compiler import written

A, B = "198.51.100.1", "203.0.113.1"
A6, B6 = "2001:db8::1", "2001:db8:1::1"
ENDS = pytest.mark.parametrize(("source", "destination"), [(A, B), (A6, B6)])

HELLO = b"CHAT hello"
SYN, ACK, PUSH = 0x02, 0x10, 0x08


def sources() -> Iterator[str]:
    """Addresses that no packet has come from yet."""
    return (str(ip_address(0x0A000000 + number)) for number in itertools.count(1))


def segment(
    source: str, destination: str, payload: bytes, sequence: int, flags: int, port: int = 1000
) -> bytes:
    packet = bytearray(tcp(source, port, destination, 2000, payload, sequence))
    packet[(20 if packet[0] >> 4 == 4 else 40) + 13] = flags
    return bytes(packet)


def chat(transport: str = "udp", inspect: str = "packet") -> Signature:
    return written.signature(
        "$hello at 0",
        '$hello = "CHAT hello"',
        name="example.chat",
        transport=transport,
        inspect=inspect,
    )
