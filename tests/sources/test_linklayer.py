from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.sources.linklayer import (
    AGGREGATED,
    CUT_SHORT,
    ENCRYPTED,
    NOT_IP,
    SKIP_REASONS,
    UNKNOWN_LINK,
    datagram,
    locator,
)
from tests.captures import ADDRESSES, ethernet, tcp, udp

V4 = udp("192.0.2.1", 1000, "192.0.2.2", 53, b"payload")
V6 = tcp("2001:db8::1", 1000, "2001:db8::2", 80, b"payload")
SNAP = b"\xaa\xaa\x03\0\0\0"
IPV4, IPV6, ARP = b"\x08\x00", b"\x86\xdd", b"\x08\x06"
VLAN, PROVIDER_VLAN, MPLS, PPPOE = b"\x81\x00", b"\x88\xa8", b"\x88\x47", b"\x88\x64"
TAG = b"\x00\x07"
WIRELESS = b"\x08\x01" + bytes(22)
QOS = b"\x88\x01" + bytes(24)


def radiotap(body: bytes = b"", present: int = 0, more: tuple[int, ...] = ()) -> bytes:
    words = struct.pack(f"<{1 + len(more)}I", present, *more)
    return struct.pack("<BBH", 0, 0, 4 + len(words) + len(body)) + words + body


FOUND = {
    "ethernet": (1, ADDRESSES + IPV4 + V4),
    "vlan": (1, ADDRESSES + VLAN + TAG + IPV4 + V4),
    "four vlans": (1, ADDRESSES + (PROVIDER_VLAN + TAG) * 2 + (VLAN + TAG) * 2 + IPV4 + V4),
    "mpls": (1, ADDRESSES + MPLS + b"\0\1\0\x40" + b"\0\2\1\x40" + V4),
    "mpls in vlan": (1, ADDRESSES + VLAN + TAG + MPLS + b"\0\1\1\x40" + V4),
    "pppoe": (1, ADDRESSES + PPPOE + b"\x11\0\0\1\0\x40\0\x21" + V4),
    "802.3 with snap": (1, ADDRESSES + b"\0\x40" + SNAP + IPV4 + V4),
    "bsd little": (0, b"\2\0\0\0" + V4),
    "bsd big": (0, b"\0\0\0\2" + V4),
    "loop": (108, b"\0\0\0\2" + V4),
    "ppp": (9, b"\xff\3\0\x21" + V4),
    "ppp compressed": (9, b"\x21" + V4),
    "ppp mpls": (9, b"\xff\3\2\x81\0\1\1\x40" + V4),
    "ppp serial": (50, b"\xff\3\0\x21" + V4),
    "ppp serial with hdlc": (50, b"\x0f\0\x08\0" + V4),
    "pppoe alone": (51, b"\x11\0\0\1\0\x40\0\x21" + V4),
    "hdlc": (104, b"\x0f\0\x08\0" + V4),
    "hdlc with ppp": (104, b"\xff\3\0\x21" + V4),
    "raw": (101, V4),
    "raw bsd": (12, V4),
    "raw openbsd": (14, V4),
    "ipv4": (228, V4),
    "cooked": (113, bytes(14) + IPV4 + V4),
    "cooked vlan": (113, bytes(14) + VLAN + TAG + IPV4 + V4),
    "cooked llc": (113, bytes(14) + b"\0\4" + SNAP + IPV4 + V4),
    "cooked 2": (276, IPV4 + bytes(18) + V4),
    "802.11": (105, WIRELESS + SNAP + IPV4 + V4),
    "802.11 qos": (105, QOS + SNAP + IPV4 + V4),
    "802.11 qos with ht control": (105, b"\x88\x81" + bytes(28) + SNAP + IPV4 + V4),
    "802.11 between access points": (105, b"\x08\3" + bytes(28) + SNAP + IPV4 + V4),
    "radiotap": (127, radiotap() + WIRELESS + SNAP + IPV4 + V4 + b"FCS!"),
    "radiotap, header padded": (
        127,
        radiotap(bytes(8) + b"\x20", present=3) + QOS + bytes(2) + SNAP + IPV4 + V4,
    ),
    "radiotap, two words, header padded": (
        127,
        radiotap(b"\x20", 0x8000_0002, (0,)) + QOS + bytes(2) + SNAP + IPV4 + V4,
    ),
    "radiotap, time aligned": (
        127,
        radiotap(bytes(4) + bytes(8) + b"\x20", 0x8000_0003, (0,))
        + QOS
        + bytes(2)
        + SNAP
        + IPV4
        + V4,
    ),
    "fddi": (10, b"\x50" + ADDRESSES + SNAP + IPV4 + V4),
    "nflog": (239, b"\2\0\0\0" + b"\x06\0\x0a\0ab\0\0" + b"\x20\0\x09\0" + V4),
}


@pytest.mark.parametrize("case", FOUND)
def test_datagram_is_found(case: str) -> None:
    link_type, frame = FOUND[case]
    assert datagram(locator(link_type, "little"), frame, 0, len(frame)) == V4


@pytest.mark.parametrize("case", FOUND)
def test_neighbours_in_the_buffer_do_not_matter(case: str) -> None:
    link_type, frame = FOUND[case]
    buffer = b"\xff" * 5 + frame + b"\x45" * 64
    assert datagram(locator(link_type, "little"), buffer, 5, 5 + len(frame)) == V4


@pytest.mark.parametrize("case", FOUND)
def test_cut_frame(case: str) -> None:
    """Whatever is behind the frame in the buffer, a cut header is not completed from it."""
    link_type, frame = FOUND[case]
    header = frame.index(V4)
    for length in range(header + 20):
        found = datagram(locator(link_type, "little"), frame, 0, length)
        assert isinstance(found, int), length
        assert found in SKIP_REASONS


def test_ipv6() -> None:
    for link_type, frame in [
        (1, ethernet(V6)),
        (0, b"\x1e\0\0\0" + V6),
        (9, b"\xff\3\0\x57" + V6),
        (229, V6),
        (101, V6),
        (113, bytes(14) + IPV6 + V6),
    ]:
        assert datagram(locator(link_type, "big"), frame, 0, len(frame)) == V6


def test_nflog_lengths_are_in_the_order_of_the_capturing_machine() -> None:
    frame = b"\2\0\0\0" + b"\0\x05\0\x0aa\0\0\0" + b"\0\x20\0\x09" + V4
    assert datagram(locator(239, "big"), frame, 0, len(frame)) == V4


def test_length_zero_goes_on_to_the_end() -> None:
    for whole in (V4[:2] + b"\0\0" + V4[4:], V6[:4] + b"\0\0" + V6[6:]):
        assert datagram(locator(101, "little"), whole, 0, len(whole)) == whole


@pytest.mark.parametrize(
    ("link_type", "frame", "reason"),
    [
        (1, ADDRESSES + ARP + bytes(28), NOT_IP),
        (1, ADDRESSES + IPV4 + b"\x50" + bytes(40), NOT_IP),
        (1, ADDRESSES + (VLAN + TAG) * 5 + IPV4 + V4, NOT_IP),
        (1, ADDRESSES + MPLS + bytes(4) * 17 + V4, NOT_IP),
        (1, ADDRESSES + PPPOE + b"\x11\0\0\1\0\x40\xc0\x21" + V4, NOT_IP),
        (1, ADDRESSES + b"\0\x40" + b"\x42\x42\x03" + bytes(40), NOT_IP),
        (1, ADDRESSES + b"\0\x40" + SNAP + ARP + bytes(40), NOT_IP),
        (1, ADDRESSES + b"\x08", CUT_SHORT),
        (0, b"\7\0\0\0" + V4, NOT_IP),
        (113, bytes(14) + b"\0\1" + V4, NOT_IP),
        (105, b"\x80\0" + bytes(60), NOT_IP),
        (105, b"\x48\0" + bytes(60), NOT_IP),
        (105, b"\x08\x41" + bytes(22) + SNAP + IPV4 + V4, ENCRYPTED),
        (105, b"\x88\x01" + bytes(22) + b"\x80\0" + bytes(60), AGGREGATED),
        (239, b"\2\0\0\0" + b"\1\0\x0a\0", NOT_IP),
        (230, V4, UNKNOWN_LINK),
        (195, V4, UNKNOWN_LINK),
    ],
)
def test_skipped(link_type: int, frame: bytes, reason: int) -> None:
    assert datagram(locator(link_type, "little"), frame, 0, len(frame)) == reason


LINK_TYPES = [0, 1, 9, 10, 12, 14, 50, 51, 101, 104, 105, 108, 113, 127, 228, 229, 239, 276, 999]


@given(
    link_type=st.sampled_from(LINK_TYPES),
    order=st.sampled_from(["little", "big"]),
    frame=st.binary(max_size=300),
    before=st.integers(0, 3),
    cut=st.integers(0, 40),
)
def test_any_bytes(link_type: int, order: str, frame: bytes, before: int, cut: int) -> None:
    end = max(before, len(frame) - cut)
    buffer = frame if end <= len(frame) else frame + bytes(end - len(frame))
    found = datagram(locator(link_type, order), buffer, before, end)  # type: ignore[arg-type]
    if isinstance(found, int):
        assert found in SKIP_REASONS
    else:
        assert 20 <= len(found) <= end - before
        assert found in buffer[before:end]


@given(tail=st.binary(max_size=120), case=st.sampled_from(sorted(FOUND)), keep=st.integers(0, 60))
def test_any_tail(tail: bytes, case: str, keep: int) -> None:
    link_type, frame = FOUND[case]
    whole = frame[:keep] + tail
    found = datagram(locator(link_type, "little"), whole, 0, len(whole))
    assert found in SKIP_REASONS if isinstance(found, int) else found in whole
