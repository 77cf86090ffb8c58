"""Writes pcapng: the blocks of a section of IP datagrams, with comments.

Format: draft-ietf-opsawg-pcapng. Little-endian, timestamps in nanoseconds, one interface
whose frames begin with the IP header.
"""

from __future__ import annotations

import os
from struct import Struct
from typing import BinaryIO, Final

_LINKTYPE_RAW: Final = 101
_SECTION: Final = 0x0A0D0D0A
_INTERFACE: Final = 1
_ENHANCED_PACKET: Final = 6

_OPTION_END: Final = 0
_OPTION_COMMENT: Final = 1
_OPTION_USERAPPL: Final = 4
_OPTION_TSRESOL: Final = 9
_NANOSECONDS: Final = b"\x09"
_MAX_OPTION_B: Final = 0xFFFF

_HEAD: Final = Struct("<II").pack
_HEAD_B: Final = 8
_LENGTH: Final = Struct("<I")
_OPTION: Final = Struct("<HH").pack
# Byte-order mark, version 1.0, a section whose length nobody knows.
_SECTION_BODY: Final = Struct("<IHHq").pack(0x1A2B3C4D, 1, 0, -1)
# Link type, and no limit on a frame's length.
_INTERFACE_BODY: Final = Struct("<HHI").pack(_LINKTYPE_RAW, 0, 0)
# Interface, time (high, low), captured length, length on the wire.
_PACKET_BODY: Final = Struct("<IIIII").pack


def section(application: str) -> bytes:
    """The blocks that a section of IP datagrams begins with; `application` has written it."""
    options = _option(_OPTION_USERAPPL, application.encode()) + _option(_OPTION_END, b"")
    resolution = _option(_OPTION_TSRESOL, _NANOSECONDS) + _option(_OPTION_END, b"")
    return _block(_SECTION, _SECTION_BODY + options) + _block(
        _INTERFACE, _INTERFACE_BODY + resolution
    )


def packet(datagram: bytes, wire_len: int, time_ns: int, comment: str) -> bytes:
    """The block of an IP datagram of `wire_len` bytes, of which `datagram` was captured."""
    head = _PACKET_BODY(0, time_ns >> 32, time_ns & 0xFFFFFFFF, len(datagram), wire_len)
    options = _option(_OPTION_COMMENT, comment.encode()[:_MAX_OPTION_B])
    return _block(_ENHANCED_PACKET, head + _padded(datagram) + options + _option(_OPTION_END, b""))


def ends_whole(file: BinaryIO) -> bool:
    """Whether a file is empty or ends with a whole block, so that another may follow it."""
    size_b = file.seek(0, os.SEEK_END)
    if size_b < _HEAD_B + _LENGTH.size:
        return size_b == 0
    # A block's length stands behind it as well as in front.
    file.seek(-_LENGTH.size, os.SEEK_END)
    written = file.read()
    (length,) = _LENGTH.unpack(written)
    if not _HEAD_B + _LENGTH.size <= length <= size_b:
        return False
    file.seek(-length, os.SEEK_END)
    return file.read(_HEAD_B)[4:] == written


def _block(kind: int, body: bytes) -> bytes:
    length = 12 + len(body)
    return _HEAD(kind, length) + body + _LENGTH.pack(length)


def _option(code: int, value: bytes) -> bytes:
    return _OPTION(code, len(value)) + _padded(value)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
