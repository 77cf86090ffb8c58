"""Which packets signatures in the XDP program look at, and which they leave to the queue."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from engine.compiler.driver import in_driver
from tests.captures import ethernet, ip, udp
from tests.compiler import written
from tests.enforce.chat_packets import (
    A6,
    ACK,
    B6,
    ENDS,
    HELLO,
    PUSH,
    SYN,
    A,
    B,
    chat,
    segment,
)
from tests.enforce.running import ETHERNET, Driver, driver

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def once() -> Iterator[Driver]:
    with driver(in_driver([chat()])) as loaded:
        yield loaded


@pytest.fixture
def datagrams(once: Driver) -> Driver:
    """A driver that looks for HELLO in datagrams, and bans nobody yet."""
    once.program.events()
    once.forget_bans()
    return once


@ENDS
def test_a_datagram_is_dropped_and_told(datagrams: Driver, source: str, destination: str) -> None:
    assert not datagrams.drops(udp(source, 1000, destination, 2000, b"CHAT bye"))
    packet = udp(source, 1000, destination, 2000, HELLO)
    assert datagrams.drops(packet)
    (event,) = datagrams.program.events()
    header = 20 if packet[0] >> 4 == 4 else 40
    addresses = packet[12:20] if header == 20 else packet[8:40]
    assert event.key == addresses + packet[header : header + 4]
    assert (event.signature, event.protocol) == (0, 17)
    assert [ban.address for ban in datagrams.program.bans()] == [ip_address(source).packed]


@ENDS
@pytest.mark.parametrize("tags", [b"", b"\x81\x00\0\1", b"\x88\xa8\0\1\x81\x00\0\2"])
def test_a_frame_is_dropped(datagrams: Driver, source: str, destination: str, tags: bytes) -> None:
    frame = ethernet(udp(source, 1000, destination, 2000, HELLO))
    frame = frame[:12] + tags + frame[12:]
    assert datagrams.drops(frame, ETHERNET)


def _options(packet: bytes) -> bytes:
    """An IPv4 packet with four bytes of options."""
    longer = bytearray(packet[:20] + b"\x01\x01\x01\x00" + packet[20:])
    longer[0] = 0x46
    struct.pack_into(">H", longer, 2, len(longer))
    return bytes(longer)


def _extension(packet: bytes) -> bytes:
    """An IPv6 packet with an empty destination options header."""
    longer = bytearray(packet[:40] + bytes([packet[6], 0, 1, 4, 0, 0, 0, 0]) + packet[40:])
    longer[6] = 60
    struct.pack_into(">H", longer, 4, len(longer) - 40)
    return bytes(longer)


def _field(packet: bytes, offset: int, value: int) -> bytes:
    changed = bytearray(packet)
    struct.pack_into(">H", changed, offset, value)
    return bytes(changed)


V4, V6 = udp(A, 1000, B, 2000, HELLO), udp(A6, 1000, B6, 2000, HELLO)


@pytest.mark.parametrize(
    "packet",
    [
        _options(V4),
        _extension(V6),
        _field(V4, 6, 0x2000),
        _field(V4, 6, 0x0001),
        _field(V4, 2, 0),
        _field(V4, 2, len(V4) + 1),
        _field(V4, 24, 8 + len(HELLO) - 1),
        _field(V4, 24, 8 + len(HELLO) + 1),
        _field(V6, 4, 0),
        _field(V6, 44, 8 + len(HELLO) - 1),
        V4[:-1],
        V6[:-1],
        ip(A, B, 4, V4),
        ip(A, B, 17, b"CHAT"),
        udp(A, 1000, B, 2000, b""),
        # Padding of the link is no payload.
        udp(A, 1000, B, 2000, HELLO[:-1]) + HELLO[-1:],
    ],
)
def test_what_the_driver_leaves_to_the_queue(datagrams: Driver, packet: bytes) -> None:
    assert not datagrams.drops(packet)
    assert datagrams.program.events() == []


def test_a_negated_pattern_is_true_of_a_short_payload_but_not_of_a_cut_one() -> None:
    signature = written.signature("not $hello at 0", '$hello = "CHAT hello"')
    with driver(in_driver([signature])) as loaded:
        assert loaded.drops(udp(A, 1000, B, 2000, b"CHAT"))
        assert loaded.drops(udp(A, 1000, B, 2000, b"CHAT jello"))
        assert not loaded.drops(udp("192.0.2.1", 1000, "192.0.2.2", 2000, HELLO))
        jello = udp("192.0.2.1", 1000, "192.0.2.2", 2000, b"CHAT jello")
        assert not loaded.drops(jello[:-1])


@ENDS
def test_the_start_of_a_stream_is_told_by_its_syn(source: str, destination: str) -> None:
    with driver(in_driver([chat("tcp", "stream")])) as loaded:
        first = segment(source, destination, HELLO, 0, PUSH | ACK)
        assert not loaded.drops(first), "no SYN was seen"
        assert not loaded.drops(segment(source, destination, b"", 0xFFFFFFFF, SYN))
        later = segment(source, destination, HELLO, 5, PUSH | ACK)
        assert not loaded.drops(later), "inside the stream"
        other_port = segment(source, destination, HELLO, 0, PUSH | ACK, port=1001)
        assert not loaded.drops(other_port)
        assert not loaded.drops(segment(destination, source, HELLO, 0, PUSH | ACK))
        assert not loaded.drops(segment(source, destination, b"", 0, ACK))
        assert not loaded.drops(segment(source, destination, HELLO[:4], 0, PUSH | ACK))
        assert loaded.program.events() == []
        assert loaded.drops(first)
        (event,) = loaded.program.events()
        assert event.protocol == 6


@ENDS
def test_the_answering_side_has_a_stream_too(source: str, destination: str) -> None:
    with driver(in_driver([chat("tcp", "stream")])) as loaded:
        assert not loaded.drops(segment(source, destination, b"", 99, SYN | ACK))
        assert loaded.drops(segment(source, destination, HELLO, 100, PUSH | ACK))


def test_a_signature_of_single_segments_needs_no_syn() -> None:
    with driver(in_driver([chat("tcp", "packet")])) as loaded:
        assert loaded.drops(segment(A, B, HELLO, 12345, PUSH | ACK))
        with_options = bytearray(segment(A6, B6, bytes(4) + HELLO, 12345, PUSH | ACK))
        with_options[40 + 12] = 0x60
        assert loaded.drops(bytes(with_options))


# --- bans
