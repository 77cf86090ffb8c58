"""Where the IP datagram starts in a captured frame, by link type.

Every locator takes a buffer and the bounds of one frame in it, and answers the
offset of the IP header, or one of the negative codes in `SKIP_REASONS`. No
locator raises, whatever the bytes, and none copies the frame: this runs once
for every packet of a capture.

Link types: https://www.tcpdump.org/linktypes.html
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

Locate = Callable[[bytes, int, int], int]
ByteOrder = Literal["little", "big"]

NOT_IP: Final = -1
CUT_SHORT: Final = -2
ENCRYPTED: Final = -3
AGGREGATED: Final = -4
UNKNOWN_LINK: Final = -5
SKIP_REASONS: Final = {
    NOT_IP: "no IP inside",
    CUT_SHORT: "cut short",
    ENCRYPTED: "encrypted wireless frame",
    AGGREGATED: "aggregated wireless frame",
    UNKNOWN_LINK: "unknown link type",
}

IPV4_HEADER_B: Final = 20
IPV6_HEADER_B: Final = 40

# EtherTypes stay as they are on the wire: comparing two bytes is cheaper than
# reading them as a number first.
_IPV4: Final = b"\x08\x00"
_IP: Final = frozenset({_IPV4, b"\x86\xdd"})
_VLAN: Final = frozenset({b"\x81\x00", b"\x88\xa8", b"\x91\x00"})
_MPLS: Final = frozenset({b"\x88\x47", b"\x88\x48"})
_PPPOE_SESSION: Final = b"\x88\x64"
_LLC_IN_SLL: Final = b"\x00\x04"
_LARGEST_LENGTH: Final = b"\x05\xdc"
"""IEEE 802.3: up to 1500 the field is the length of an LLC frame, not a type."""

_PPP_IP: Final = frozenset({b"\x00\x21", b"\x00\x57"})
_PPP_MPLS: Final = frozenset({b"\x02\x81", b"\x02\x83"})
_SNAP: Final = frozenset({b"\xaa\xaa\x03\x00\x00\x00", b"\xaa\xaa\x03\x00\x00\xf8"})

_MAX_TAGS: Final = 4
_MAX_LABELS: Final = 16

# AF_INET is 2 everywhere; AF_INET6 is 10 on Linux, 24, 28 or 30 on the BSDs. The
# capturing machine's byte order decides, so both are accepted.
_FAMILIES: Final = frozenset(
    family.to_bytes(4, order) for family in (2, 10, 24, 28, 30) for order in ("little", "big")
)


def datagram(locate: Locate, frame: bytes, start: int, end: int) -> bytes | int:
    """The IP datagram in the frame between `start` and `end`, or a negative code.

    Frames carry padding and checksums behind the datagram: a 40-byte ACK padded to
    Ethernet's minimum must not look like six bytes of payload. A length of 0 means
    that the card was to split the packet (IPv4) or a jumbogram (RFC 2675): then the
    datagram goes on to the end of the frame.
    """
    at = locate(frame, start, end)
    if at < 0:
        return at
    if end - at < IPV4_HEADER_B:
        return CUT_SHORT
    version = frame[at] >> 4
    if version == 4:
        length = frame[at + 2] << 8 | frame[at + 3]
    elif version == 6:
        length = frame[at + 4] << 8 | frame[at + 5]
        if length:
            length += IPV6_HEADER_B
    else:
        return NOT_IP
    return frame[at : at + length] if 0 < length < end - at else frame[at:end]


def locator(link_type: int, order: ByteOrder) -> Locate:
    """The locator for a LINKTYPE_ number; `order` is that of the capturing machine."""
    if link_type == 239:
        return _nflog_little if order == "little" else _nflog_big
    return _LOCATORS.get(link_type, _unknown)


def _unknown(frame: bytes, start: int, end: int) -> int:
    return UNKNOWN_LINK


def _raw(frame: bytes, start: int, end: int) -> int:
    return start


def _ethernet(frame: bytes, start: int, end: int) -> int:
    at = start + 14
    kind = frame[at - 2 : at]
    if kind == _IPV4:
        return at
    return _network(kind, frame, at, end)


def _network(kind: bytes, frame: bytes, at: int, end: int) -> int:
    """Follow an EtherType through tags and labels to the IP header."""
    for _ in range(_MAX_TAGS + 1):
        if at > end:
            return CUT_SHORT
        if kind in _IP:
            return at
        if kind not in _VLAN:
            break
        at += 4
        kind = frame[at - 2 : at]
    if kind in _MPLS:
        return _mpls(frame, at, end)
    if kind == _PPPOE_SESSION:
        # RFC 2516: version and type, code, session, length.
        return _ppp_protocol(frame, at + 6, end)
    if kind <= _LARGEST_LENGTH:
        return _llc(frame, at, end)
    return NOT_IP


def _mpls(frame: bytes, at: int, end: int) -> int:
    """RFC 3032: labels of four bytes up to the one with the bottom-of-stack bit."""
    for label in range(at, at + 4 * _MAX_LABELS, 4):
        if label + 4 > end:
            return CUT_SHORT
        if frame[label + 2] & 1:
            return label + 4
    return NOT_IP


def _llc(frame: bytes, at: int, end: int) -> int:
    """IEEE 802.2 LLC with SNAP (RFC 1042), the only way IP travels in it."""
    if at + 8 > end:
        return CUT_SHORT
    if frame[at : at + 6] in _SNAP and frame[at + 6 : at + 8] in _IP:
        return at + 8
    return NOT_IP


def _ppp(frame: bytes, start: int, end: int) -> int:
    """RFC 1662; address and control may have been negotiated away."""
    if frame[start : start + 2] == b"\xff\x03":
        start += 2
    elif frame[start : start + 1] in (b"\x0f", b"\x8f"):
        return _hdlc(frame, start, end)
    return _ppp_protocol(frame, start, end)


def _ppp_protocol(frame: bytes, at: int, end: int) -> int:
    """RFC 1661 section 2: an odd first byte is the whole protocol, compressed."""
    if at + 2 > end:
        return CUT_SHORT
    if frame[at] & 1:
        protocol, at = b"\x00" + frame[at : at + 1], at + 1
    else:
        protocol, at = frame[at : at + 2], at + 2
    if protocol in _PPP_IP:
        return at
    return _mpls(frame, at, end) if protocol in _PPP_MPLS else NOT_IP


def _hdlc(frame: bytes, start: int, end: int) -> int:
    """Cisco HDLC: address, control, EtherType."""
    if frame[start : start + 2] == b"\xff\x03":
        return _ppp_protocol(frame, start + 2, end)
    return _network(frame[start + 2 : start + 4], frame, start + 4, end)


def _pppoe(frame: bytes, start: int, end: int) -> int:
    return _ppp_protocol(frame, start + 6, end)


def _loopback(frame: bytes, start: int, end: int) -> int:
    """BSD loopback: an address family in four bytes."""
    at = start + 4
    if at > end:
        return CUT_SHORT
    return at if frame[start:at] in _FAMILIES else NOT_IP


def _cooked(frame: bytes, start: int, end: int) -> int:
    """Linux "any" device: packet type, ARPHRD, address, EtherType."""
    return _cooked_network(frame[start + 14 : start + 16], frame, start + 16, end)


def _cooked2(frame: bytes, start: int, end: int) -> int:
    """The second version: EtherType first, 20 bytes in all."""
    return _cooked_network(frame[start : start + 2], frame, start + 20, end)


def _cooked_network(kind: bytes, frame: bytes, at: int, end: int) -> int:
    # Below 0x0600 these are Linux's own numbers (if_ether.h), not lengths.
    if kind < b"\x06\x00" and kind != _LLC_IN_SLL:
        return NOT_IP
    return _network(kind, frame, at, end)


def _fddi(frame: bytes, start: int, end: int) -> int:
    return _llc(frame, start + 13, end)


def _radiotap(frame: bytes, start: int, end: int) -> int:
    """https://www.radiotap.org: little-endian, always; fields aligned to their size."""
    if start + 8 > end:
        return CUT_SHORT
    header_end = start + (frame[start + 2] | frame[start + 3] << 8)
    present, at = frame[start + 4], start + 8
    while frame[at - 1 : at] >= b"\x80" and at < header_end:  # one more word of presence bits
        at += 4
    if present & 0x01:  # TSFT, eight bytes, aligned to eight
        at = start + ((at - start + 7) & ~7) + 8
    flags = frame[at] if present & 0x02 and at < min(header_end, end) else 0
    return _wireless(frame, header_end, end, padded=bool(flags & 0x20))


def _wireless(frame: bytes, start: int, end: int, padded: bool = False) -> int:
    """IEEE 802.11 data frame: the header's length depends on its flags (9.3.2.1)."""
    if start + 24 > end:
        return CUT_SHORT
    control, flags = frame[start], frame[start + 1]
    if control & 0x0F != 0x08 or control & 0x40:  # not data, or data without a body
        return NOT_IP
    if flags & 0x40:
        return ENCRYPTED
    length = 30 if flags & 0x03 == 0x03 else 24
    if control & 0x80:  # QoS
        if start + length >= end:
            return CUT_SHORT
        if frame[start + length] & 0x80:
            return AGGREGATED
        length += 6 if flags & 0x80 else 2
    if padded:
        length = (length + 3) & ~3
    return _llc(frame, start + length, end)


def _nflog_little(frame: bytes, start: int, end: int) -> int:
    return _nflog(frame, start, end, "little")


def _nflog_big(frame: bytes, start: int, end: int) -> int:
    return _nflog(frame, start, end, "big")


def _nflog(frame: bytes, start: int, end: int, order: ByteOrder) -> int:
    """Linux netfilter log: four bytes, then attributes of length, type, value."""
    at = start + 4
    while at + 4 <= end:
        length = int.from_bytes(frame[at : at + 2], order)
        if length < 4:
            return NOT_IP
        if int.from_bytes(frame[at + 2 : at + 4], order) == 9:  # NFULA_PAYLOAD
            return at + 4
        at += (length + 3) & ~3
    return CUT_SHORT


_LOCATORS: Final[dict[int, Locate]] = {
    0: _loopback,
    1: _ethernet,
    9: _ppp,
    10: _fddi,
    12: _raw,
    14: _raw,
    50: _ppp,
    51: _pppoe,
    101: _raw,
    104: _hdlc,
    105: _wireless,
    108: _loopback,
    113: _cooked,
    127: _radiotap,
    228: _raw,
    229: _raw,
    276: _cooked2,
}
