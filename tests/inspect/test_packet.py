from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.inspect.packet import MAX_TUNNELS, Endpoint, decode, reverse
from tests.captures import ip, tcp, udp
from tests.inspect.datagrams import Built, datagrams, extension, mutated

A4, B4, A6, B6 = "10.0.0.1", "192.0.2.9", "2001:db8::1", "2001:db8::2"


@given(datagrams())
def test_decode_finds_what_was_put_in(built: Built) -> None:
    packet = decode(built.datagram)
    assert packet is not None
    assert (packet.protocol, packet.payload, packet.payload_len) == (
        built.protocol,
        built.payload,
        len(built.payload),
    )
    assert packet.source == Endpoint(ip_address(built.source).packed, built.sport)
    assert packet.destination == Endpoint(ip_address(built.destination).packed, built.dport)
    assert (packet.sequence, packet.flags) == (built.sequence, built.flags)


@given(st.one_of(st.binary(max_size=120), mutated()))
def test_decode_never_raises(datagram: bytes) -> None:
    packet = decode(datagram)
    if packet is not None:
        assert packet.payload in datagram
        assert len(packet.payload) <= packet.payload_len
        assert len(packet.key) in (12, 36)


@given(datagrams(tunnels=0), st.binary(min_size=1, max_size=20))
def test_what_trails_the_datagram_is_no_payload(built: Built, trailer: bytes) -> None:
    packet = decode(built.datagram + trailer)
    assert packet is not None
    assert packet.payload == built.payload


def changed(datagram: bytes, **octets: int) -> bytes:
    out = bytearray(datagram)
    for name, value in octets.items():
        out[int(name[1:])] = value
    return bytes(out)


WHOLE4, WHOLE6 = udp(A4, 1, B4, 2, b"payload"), udp(A6, 1, B6, 2, b"payload")
SEGMENT = tcp(A4, 1, B4, 2, b"payload")


def tunnelled(times: int) -> bytes:
    datagram = WHOLE4
    for _ in range(times):
        datagram = ip(A4, B4, 4, datagram)
    return datagram


def extended(times: int) -> bytes:
    body, following = WHOLE6[40:], 17
    for _ in range(times):
        body, following = extension(60, following, 0) + body, 60
    return ip(A6, B6, following, body)


@pytest.mark.parametrize(
    ("datagram", "payload"),
    [
        (WHOLE4, b"payload"),
        (changed(WHOLE4, o6=0x40), b"payload"),
        (changed(WHOLE4, o6=0x20), b"payload"),
        (changed(WHOLE4, o6=0x01), None),
        (changed(WHOLE4, o7=0x01), None),
        (changed(WHOLE4, o0=0x44), None),
        (changed(WHOLE4, o0=0x55), None),
        (changed(WHOLE4, o9=1), None),
        (changed(WHOLE4, o3=24), b""),
        (changed(WHOLE4, o2=0, o3=0), b"payload"),
        (changed(WHOLE4, o2=0, o3=19), None),
        (changed(WHOLE4, o25=10), b"pa"),
        (changed(WHOLE4, o25=7), b"payload"),
        (changed(WHOLE4, o24=1), b"payload"),
        (WHOLE4[:-3], b"payl"),
        (WHOLE4[:27], None),
        (WHOLE4[:19], None),
        (b"", None),
        (WHOLE6, b"payload"),
        (changed(WHOLE6, o4=0, o5=0), b"payload"),
        (WHOLE6[:39], None),
        (changed(WHOLE6, o6=59), None),
        (ip(A6, B6, 44, bytes([17, 0, 0, 9]) + bytes(4) + WHOLE6[40:]), None),
        (ip(A6, B6, 60, bytes([17, 9])), None),
        (SEGMENT, b"payload"),
        (changed(SEGMENT, o32=0x40), None),
        (changed(SEGMENT, o32=0xF0), None),
        (SEGMENT[:39], None),
        (tunnelled(MAX_TUNNELS), b"payload"),
        (tunnelled(MAX_TUNNELS + 1), None),
        (extended(200), b"payload"),
        (extended(200)[:1500], None),
        (ip(A4, B4, 47, b"\x00\x01\x08\x00" + WHOLE4), None),
        (ip(A4, B4, 47, b"\x00\x00\x65\x58" + WHOLE4), None),
        (ip(A4, B4, 47, b"\x00\x00\x08"), None),
        (ip(A4, B4, 47, b"\xb0\x00\x08\x00"), None),
    ],
    ids=[
        "IPv4",
        "must not be fragmented",
        "first fragment",
        "later fragment (high bits)",
        "later fragment (low bits)",
        "header under five words",
        "version 5",
        "ICMP",
        "IP ends before UDP does",
        "no IP length: a super-packet",
        "IP ends inside its header",
        "UDP ends before IP does",
        "UDP length under eight",
        "UDP claims more than IP holds",
        "captured short",
        "UDP header cut",
        "IPv4 header cut",
        "nothing",
        "IPv6",
        "jumbogram",
        "IPv6 header cut",
        "no next header",
        "later IPv6 fragment",
        "extension header cut",
        "TCP",
        "TCP header under five words",
        "TCP header past the end",
        "TCP header cut",
        "as many tunnels as are looked into",
        "one tunnel more",
        "many extension headers",
        "extension headers up to the end of what was captured",
        "GRE version 1",
        "GRE of Ethernet",
        "GRE header cut",
        "GRE fields past the end",
    ],
)
def test_payload(datagram: bytes, payload: bytes | None) -> None:
    packet = decode(datagram)
    assert (None if packet is None else packet.payload) == payload


@given(datagrams(tunnels=0))
def test_reverse_is_the_other_direction(built: Built) -> None:
    packet = decode(built.datagram)
    assert packet is not None
    back = packet._replace(key=reverse(packet.key))
    assert (back.source, back.destination) == (packet.destination, packet.source)
    assert reverse(back.key) == packet.key


@pytest.mark.parametrize(
    ("address", "text"), [(A4, "10.0.0.1:53"), (A6, "[2001:db8::1]:53")], ids=["IPv4", "IPv6"]
)
def test_endpoint_as_text(address: str, text: str) -> None:
    assert str(Endpoint(ip_address(address).packed, 53)) == text
