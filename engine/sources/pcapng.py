"""The state of one pcapng section: its byte order and its interfaces.

Format: draft-ietf-opsawg-pcapng. Damage is reported as ValueError; whoever reads
the file knows the place.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Final

from engine.sources.linklayer import ByteOrder, Locate, locator

SECTION_MAGIC: Final = b"\x0a\x0d\x0d\x0a"
MAX_BLOCK_B: Final = 16 << 20
"""libpcap's largest block."""

SECTION_BLOCK: Final = 0x0A0D0D0A
"""Reads the same in both byte orders."""
INTERFACE_BLOCK: Final = 1
_OBSOLETE_PACKET: Final = 2
_SIMPLE_PACKET: Final = 3
ENHANCED_PACKET_BLOCK: Final = 6

OPTION_TSRESOL: Final = 9
_OPTION_TSOFFSET: Final = 14

_ORDERS: Final[dict[bytes, ByteOrder]] = {
    b"\x4d\x3c\x2b\x1a": "little",
    b"\x1a\x2b\x3c\x4d": "big",
}


@dataclass(frozen=True, slots=True)
class _Interface:
    locate: Locate
    snaplen: int
    """In bytes; 0 means no limit."""
    unit_s: float
    offset_s: int


class Section:
    """Reads the blocks of one section; `timestamp_s` is that of the latest packet."""

    __slots__ = (
        "_interfaces",
        "_obsolete",
        "_order",
        "_packet",
        "_short",
        "block_head",
        "timestamp_s",
    )

    def __init__(self, order: ByteOrder, timestamp_s: float = 0.0) -> None:
        mark = "<" if order == "little" else ">"
        self._order: ByteOrder = order
        self.block_head = Struct(mark + "II").unpack_from
        """(type, length in bytes) of the block at an offset into a buffer."""
        self._short = Struct(mark + "HH").unpack_from
        # Interface, time (high, low), captured length, length on the wire.
        self._packet = Struct(mark + "IIII4x").unpack_from
        self._obsolete = Struct(mark + "H2xIII4x").unpack_from
        self._interfaces: list[_Interface] = []
        self.timestamp_s = timestamp_s

    @classmethod
    def starting_at(cls, data: bytes, offset: int, timestamp_s: float) -> Section:
        """The section whose header block is at `offset`; at least 12 bytes are there."""
        order = _ORDERS.get(data[offset + 8 : offset + 12])
        if order is None:
            raise ValueError("a section header without a byte-order mark")
        return cls(order, timestamp_s)

    def read_block(
        self, data: bytes, kind: int, offset: int, after: int
    ) -> tuple[Locate, int, int] | None:
        """Take in the block between `offset` and `after`.

        For a packet returns how to find the IP datagram and the bounds of the frame.
        """
        start, end = offset + 8, after - 4
        if data[end:after] != data[offset + 4 : start]:
            raise ValueError("a block whose two lengths differ")
        if kind in (ENHANCED_PACKET_BLOCK, _OBSOLETE_PACKET):
            if end - start < 20:
                raise ValueError(f"a packet block of {after - offset} bytes")
            unpack = self._packet if kind == ENHANCED_PACKET_BLOCK else self._obsolete
            number, high, low, captured = unpack(data, start)
            start += 20
            if captured > end - start:
                raise ValueError(f"a frame of {captured} bytes in a block of {after - offset}")
            interface = self._interface(number)
            self.timestamp_s = (high << 32 | low) * interface.unit_s + interface.offset_s
            return interface.locate, start, start + captured
        if kind == _SIMPLE_PACKET:
            return self._simple(data, start, end)
        if kind == INTERFACE_BLOCK:
            self._add_interface(data, start, end)
        elif kind == SECTION_BLOCK:
            if end - start < 16:
                raise ValueError(f"a section header of {after - offset} bytes")
            major, minor = self._short(data, start + 4)
            if major != 1:
                raise ValueError(f"pcapng version {major}.{minor} instead of 1.0")
        return None

    def _interface(self, number: int) -> _Interface:
        if number >= len(self._interfaces):
            raise ValueError(
                f"a packet from interface {number}, where {len(self._interfaces)} are described"
            )
        return self._interfaces[number]

    def _simple(self, data: bytes, start: int, end: int) -> tuple[Locate, int, int]:
        """A packet of the first interface without a time of its own."""
        if end - start < 4:
            raise ValueError("a simple packet block without a length")
        interface = self._interface(0)
        captured = int.from_bytes(data[start : start + 4], self._order)
        if interface.snaplen:
            captured = min(captured, interface.snaplen)
        start += 4
        if captured > end - start:
            raise ValueError(f"a frame of {captured} bytes in a block of {end - start + 16}")
        return interface.locate, start, start + captured

    def _add_interface(self, data: bytes, start: int, end: int) -> None:
        if end - start < 8:
            raise ValueError("an interface description that is cut short")
        link_type = int.from_bytes(data[start : start + 2], self._order)
        snaplen = int.from_bytes(data[start + 4 : start + 8], self._order)
        unit_s, offset_s = 1e-6, 0
        at = start + 8
        while at + 4 <= end:
            code, length = self._short(data, at)
            value = data[at + 4 : at + 4 + length]
            if code == 0 or at + 4 + length > end:
                break
            if code == OPTION_TSRESOL and length == 1:
                exponent = value[0] & 0x7F
                unit_s = 2.0**-exponent if value[0] & 0x80 else 10.0**-exponent
            elif code == _OPTION_TSOFFSET and length == 8:
                offset_s = int.from_bytes(value, self._order, signed=True)
            at += 4 + (length + 3 & ~3)
        self._interfaces.append(
            _Interface(locator(link_type, self._order), snaplen, unit_s, offset_s)
        )
