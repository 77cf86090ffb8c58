"""From the bytes of an IP datagram to its outermost TCP or UDP packet.

IP-in-IP (RFC 2003), 6in4 (RFC 4213) and GRE (RFC 2784, 2890) are looked into. Whatever the
bytes, the answer is a packet or None, never an exception.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal, NamedTuple

TCP = 6
UDP = 17
SYN = 0x02
ACK = 0x10

# Each is another IP header in front of the payload, and needs somebody to take it off again;
# more are nobody's honest traffic. IPv6 extension headers have no such bound: any receiver walks
# through as many as there are.
MAX_TUNNELS = 4

_IPIP = 4
_IPV6 = 41
_GRE = 47
_FRAGMENT = 44
_AUTHENTICATION = 51
# Hop-by-hop, routing, destination options, mobility: next header, then length in 8 octets.
_IPV6_EXTENSIONS = frozenset({0, 43, 60, 135})
_GRE_IP_TYPES = (b"\x08\x00", b"\x86\xdd")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address in network byte order (4 or 16 bytes) and a port."""

    address: bytes
    port: int

    def __str__(self) -> str:
        text = str(ip_address(self.address))
        return f"[{text}]:{self.port}" if ":" in text else f"{text}:{self.port}"


class Packet(NamedTuple):
    """A TCP segment or UDP datagram.

    `key` is both addresses and both ports as they stand in the headers, source first (12
    bytes for IPv4, 36 for IPv6). `payload` is what was captured of the transport payload;
    `payload_len` its length on the wire. `sequence`, `flags` and `acknowledgement` are TCP's, 0
    for UDP. `tunnelled`: another IP header stood before this one.
    """

    protocol: int
    key: bytes
    payload: bytes
    payload_len: int
    sequence: int
    flags: int
    acknowledgement: int = 0
    tunnelled: bool = False

    @property
    def transport(self) -> Literal["tcp", "udp"]:
        """The transport's name in signatures and reports."""
        return "tcp" if self.protocol == TCP else "udp"

    @property
    def source(self) -> Endpoint:
        """Who sent it."""
        width = len(self.key) // 2 - 2
        return Endpoint(self.key[:width], int.from_bytes(self.key[-4:-2], "big"))

    @property
    def destination(self) -> Endpoint:
        """Whom it is for."""
        width = len(self.key) // 2 - 2
        return Endpoint(self.key[width:-4], int.from_bytes(self.key[-2:], "big"))


def reverse(key: bytes) -> bytes:
    """The key of the same flow's other direction."""
    width = len(key) // 2 - 2
    return key[width:-4] + key[:width] + key[-2:] + key[-4:-2]


def decode(datagram: bytes) -> Packet | None:
    """The outermost TCP or UDP packet of an IP datagram.

    None for anything else: other protocols, later fragments (they carry no ports), headers
    that are cut short or contradict themselves.
    """
    start = 0
    for tunnels in range(MAX_TUNNELS + 1):
        version = datagram[start] >> 4 if start < len(datagram) else 0
        if version == 4:
            header = _ipv4(datagram, start)
        elif version == 6:
            header = _ipv6(datagram, start)
        else:
            return None
        if header is None:
            return None
        protocol, addresses, body, end = header
        if protocol == UDP:
            return _udp(datagram, addresses, body, end, tunnelled=tunnels > 0)
        if protocol == TCP:
            return _tcp(datagram, addresses, body, end, tunnelled=tunnels > 0)
        if protocol in (_IPIP, _IPV6):
            start = body
        elif protocol == _GRE:
            inner = _gre(datagram, body)
            if inner is None:
                return None
            start = inner
        else:
            return None
    return None


# What a network header says: protocol, addresses, start and end of what it carries. The end
# is where the datagram ends on the wire, which may be past what was captured.
_Network = tuple[int, bytes, int, int]


def _ipv4(datagram: bytes, start: int) -> _Network | None:
    """RFC 791."""
    if len(datagram) < start + 20:
        return None
    header_len = (datagram[start] & 0x0F) * 4
    end = start + (datagram[start + 2] << 8 | datagram[start + 3])
    if end == start:  # a super-packet over 64 KiB leaves its length to the link
        end = len(datagram)
    body = start + header_len
    later_fragment = (datagram[start + 6] & 0x1F) or datagram[start + 7]
    if header_len < 20 or body > end or later_fragment:
        return None
    return datagram[start + 9], datagram[start + 12 : start + 20], body, end


def _ipv6(datagram: bytes, start: int) -> _Network | None:
    """RFC 8200, with its extension headers."""
    body = start + 40
    if len(datagram) < body:
        return None
    payload_len = datagram[start + 4] << 8 | datagram[start + 5]
    end = body + payload_len if payload_len else len(datagram)  # 0: a jumbogram
    protocol = datagram[start + 6]
    while True:
        if protocol in _IPV6_EXTENSIONS:
            unit, fixed = 8, 8
        elif protocol == _AUTHENTICATION:
            unit, fixed = 4, 8
        elif protocol == _FRAGMENT:
            unit, fixed = 0, 8
        else:
            return protocol, datagram[start + 8 : start + 40], body, end
        if len(datagram) < body + 8:
            return None
        if protocol == _FRAGMENT and (datagram[body + 2] or datagram[body + 3] & 0xF8):
            return None
        protocol, body = datagram[body], body + fixed + unit * datagram[body + 1]


def _gre(datagram: bytes, start: int) -> int | None:
    """Where the IP datagram inside GRE begins, None if there is none."""
    if len(datagram) < start + 4 or datagram[start + 1] & 0x07:  # version 0 only
        return None
    if datagram[start + 2 : start + 4] not in _GRE_IP_TYPES:
        return None
    flags = datagram[start]
    # Checksum, key and sequence number are four bytes each, where their bit is set.
    return start + 4 + 4 * ((flags >> 7 & 1) + (flags >> 5 & 1) + (flags >> 4 & 1))


def _udp(
    datagram: bytes, addresses: bytes, start: int, end: int, *, tunnelled: bool
) -> Packet | None:
    """RFC 768."""
    if len(datagram) < start + 8:
        return None
    length = datagram[start + 4] << 8 | datagram[start + 5]
    if length >= 8:  # 0 in a jumbogram; under 8 is a lie, and the IP length holds
        end = min(end, start + length)
    key = addresses + datagram[start : start + 4]
    payload = datagram[start + 8 : end]
    return Packet(UDP, key, payload, max(0, end - start - 8), 0, 0, 0, tunnelled)


def _tcp(
    datagram: bytes, addresses: bytes, start: int, end: int, *, tunnelled: bool
) -> Packet | None:
    """RFC 9293."""
    if len(datagram) < start + 20:
        return None
    body = start + (datagram[start + 12] >> 4) * 4
    if body < start + 20 or body > end:
        return None
    return Packet(
        TCP,
        addresses + datagram[start : start + 4],
        datagram[body:end],
        end - body,
        int.from_bytes(datagram[start + 4 : start + 8], "big"),
        datagram[start + 13],
        int.from_bytes(datagram[start + 8 : start + 12], "big"),
        tunnelled,
    )
