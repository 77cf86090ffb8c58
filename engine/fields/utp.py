"""The uTP header (BEP 29)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from engine.language.vocabulary import Implied

# Version 1 and a type from 0 to 4: far too little to look for alone.
IMPLIED = Implied(r"^[\x01\x11\x21\x31\x41].{19}", 5.7)

HEADER_B = 20
MAX_EXTENSIONS = 8

_HEADER = struct.Struct(">BBHIIIHH")


@dataclass(frozen=True, slots=True)
class UtpHeader:
    """A version 1 header with its extension chain.

    Times are in microseconds, `wnd_size` in bytes; `extensions_end` is the offset of the
    first byte of data.
    """

    type: int
    connection_id: int
    timestamp_us: int
    timestamp_difference_us: int
    wnd_size: int
    seq_nr: int
    ack_nr: int
    extensions_end: int


def parse_header(payload: bytes) -> UtpHeader | None:
    """The header at the start of `payload`.

    None when it is shorter than a header, of another version or an unknown type (0 to 4
    exist), or when the extension chain runs past the end or over MAX_EXTENSIONS.
    """
    if len(payload) < HEADER_B:
        return None
    first, extension, connection_id, sent, difference, window, seq_nr, ack_nr = _HEADER.unpack_from(
        payload
    )
    if first & 0x0F != 1 or first >> 4 > 4:
        return None
    position = HEADER_B
    for _ in range(MAX_EXTENSIONS + 1):
        if extension == 0:
            return UtpHeader(
                first >> 4, connection_id, sent, difference, window, seq_nr, ack_nr, position
            )
        if position + 2 > len(payload):
            return None
        extension = payload[position]
        position += 2 + payload[position + 1]
        if position > len(payload):
            return None
    return None
