"""Addresses in SOCKS 5, and the header it puts before datagrams (RFC 1928, sections 5 and 7)."""

from __future__ import annotations

UDP_HEADER = r"^\x00\x00\x00(?:\x01.{7}|\x03..{3}|\x04.{19})"
"""An expression, in Hyperscan's dialect, that matches wherever there is such a header."""


def address_end(data: bytes, at: int) -> int | None:
    """Where an address and a port end that begin at an offset with the kind of address.

    Where they are cut off, that is past the end of the data. None, if they are none.
    """
    kind = data[at] if at < len(data) else 1
    if kind == 1:
        return at + 1 + 4 + 2
    if kind == 3:
        name_len = data[at + 1] if at + 1 < len(data) else 1
        return at + 2 + name_len + 2
    return at + 1 + 16 + 2 if kind == 4 else None


def udp_header_len(payload: bytes) -> int:
    """The length of the header before a datagram's own payload; 0 where there is none.

    Fragments, which hardly any proxy takes, are not looked into.
    """
    if payload[:3] != b"\0\0\0":
        return 0
    end = address_end(payload, 3)
    return end if end is not None and end < len(payload) else 0
