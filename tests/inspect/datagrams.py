"""IP datagrams built from the RFCs, independently of the decoder."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

from hypothesis import strategies as st

from tests.captures import ip

TCP, UDP = 6, 17


@dataclass(frozen=True)
class Built:
    """A datagram and what its outermost transport packet says."""

    datagram: bytes
    protocol: int
    source: str
    sport: int
    destination: str
    dport: int
    payload: bytes
    sequence: int = 0
    flags: int = 0


addresses4 = st.ip_addresses(v=4).map(str)
addresses6 = st.ip_addresses(v=6).map(str)
ports = st.integers(0, 65535)


@st.composite
def transports(draw: st.DrawFn) -> tuple[int, bytes, Built]:
    """(protocol, header and payload, what they say)."""
    sport, dport, payload = draw(ports), draw(ports), draw(st.binary(max_size=80))
    said = Built(b"", UDP, "", sport, "", dport, payload)
    if draw(st.booleans()):
        header = struct.pack(">HHHH", sport, dport, 8 + len(payload), draw(ports))
        return UDP, header + payload, said
    options = bytes(4 * draw(st.integers(0, 10)))
    sequence, flags = draw(st.integers(0, 2**32 - 1)), draw(st.integers(0, 255))
    words = (20 + len(options)) // 4
    header = struct.pack(">HHIIBBHHH", sport, dport, sequence, 7, words << 4, flags, 9, 0, 0)
    return (
        TCP,
        header + options + payload,
        replace(said, protocol=TCP, sequence=sequence, flags=flags),
    )


def with_options(datagram: bytes, words: int) -> bytes:
    """RFC 791: an IPv4 header with `words` words of no-operation options."""
    header = bytes([0x45 + words]) + datagram[1:20] + b"\x01" * (4 * words)
    length = len(datagram) + 4 * words
    return header[:2] + length.to_bytes(2, "big") + header[4:] + datagram[20:]


def extension(kind: int, following: int, units: int) -> bytes:
    """RFC 8200, RFC 4302 (51): an extension header."""
    if kind == 44:
        return bytes([following, 0, 0, 1]) + bytes(4)  # the first fragment, more follow
    if kind == 51:
        return bytes([following, units + 1]) + bytes(4 * (units + 3) - 2)
    return bytes([following, units]) + bytes(8 * (units + 1) - 2)


@st.composite
def networks(draw: st.DrawFn, protocol: int, body: bytes) -> tuple[bytes, str, str]:
    """(an IPv4 or IPv6 datagram around a body, source, destination)."""
    if draw(st.booleans()):
        source, destination = draw(addresses4), draw(addresses4)
        datagram = ip(source, destination, protocol, body)
        return with_options(datagram, draw(st.integers(0, 10))), source, destination
    source, destination = draw(addresses6), draw(addresses6)
    kinds = draw(st.lists(st.sampled_from([0, 43, 44, 51, 60, 135]), max_size=8))
    for kind in kinds:
        body = extension(kind, protocol, draw(st.integers(0, 3))) + body
        protocol = kind
    return ip(source, destination, protocol, body), source, destination


def gre(kind: int, flags: int) -> bytes:
    """RFC 2784, RFC 2890: checksum, key and sequence number where their bit is set."""
    fields = sum(bool(flags & bit) for bit in (0x80, 0x20, 0x10))
    return bytes([flags, 0]) + kind.to_bytes(2, "big") + bytes(4 * fields)


@st.composite
def datagrams(draw: st.DrawFn, tunnels: int = 4) -> Built:
    protocol, body, said = draw(transports())
    datagram, source, destination = draw(networks(protocol, body))
    for _ in range(draw(st.integers(0, tunnels))):
        is_v4 = datagram[0] >> 4 == 4
        outer, inner = (4, datagram) if is_v4 else (41, datagram)
        if draw(st.booleans()):
            flags = draw(st.sampled_from([0, 0x80, 0x20, 0x10, 0xB0]))
            outer, inner = 47, gre(0x0800 if is_v4 else 0x86DD, flags) + datagram
        datagram, _, _ = draw(networks(outer, inner))
    return replace(said, datagram=datagram, source=source, destination=destination)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A datagram with some bytes changed, cut anywhere."""
    data = bytearray(draw(datagrams()).datagram)
    for _ in range(draw(st.integers(0, 4))):
        data[draw(st.integers(0, min(len(data), 80) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))]) + draw(st.binary(max_size=4))
