"""Reads packet captures: pcap and pcapng, plain or gzip, one pass, constant memory.

Formats: draft-ietf-opsawg-pcap and draft-ietf-opsawg-pcapng.
"""

from __future__ import annotations

import gzip
import zlib
from collections import Counter
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from struct import Struct
from typing import Final, NoReturn

from engine.errors import InputError
from engine.sources.linklayer import SKIP_REASONS, ByteOrder, datagram, locator
from engine.sources.pcapng import MAX_BLOCK_B, SECTION_BLOCK, SECTION_MAGIC, Section

Frame = tuple[float, bytes]
"""(timestamp_s, datagram): seconds since the epoch and the IP datagram of one frame."""

# What the processor's cache can hold; for a longer record, as much again as there is.
_CHUNK_B: Final = 1 << 17
MAX_FRAME_B: Final = 256 << 10
"""libpcap's largest frame; a header's snaplen is too often wrong to be a limit."""

_GZIP: Final = b"\x1f\x8b"
_CLASSIC: Final[dict[bytes, tuple[ByteOrder, float]]] = {
    b"\xd4\xc3\xb2\xa1": ("little", 1e-6),
    b"\xa1\xb2\xc3\xd4": ("big", 1e-6),
    b"\x4d\x3c\xb2\xa1": ("little", 1e-9),
    b"\xa1\xb2\x3c\x4d": ("big", 1e-9),
}


def looks_like_capture(path: Path) -> bool:
    """Whether the file begins as pcap or pcapng does; False where it cannot be read."""
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError:
        return False
    return magic in _CLASSIC or magic == SECTION_MAGIC


class Capture:
    """The IP datagrams of one capture file, in the order of the file.

    Iterate once. Timestamps are those of the file and may run backwards; a frame
    without one (pcapng's Simple Packet Block) gets that of the frame before it. A
    datagram is as long as its own header says, or shorter where the capture cut it.
    Frames without IP are counted in `skipped`, by reason.

    Raises InputError, with the file and the byte offset, for a file that cannot be
    read, is no capture, is damaged, or ends inside a record: every frame before that
    point has been yielded by then.
    """

    __slots__ = ("_base", "_path", "_stream", "skipped")

    def __init__(self, path: Path) -> None:
        self.skipped: Counter[str] = Counter()
        self._path = path
        self._base = 0
        self._stream: BufferedReader | gzip.GzipFile

    def __iter__(self) -> Iterator[Frame]:
        try:
            file = self._path.open("rb")
        except OSError as err:
            raise InputError(f"{self._path}: cannot read: {err.strerror}") from err
        with file:
            try:
                zipped = file.peek(2)[:2] == _GZIP
            except OSError as err:
                raise InputError(f"{self._path}: cannot read: {err.strerror}") from err
            self._stream = gzip.GzipFile(fileobj=file) if zipped else file
            yield from self._frames()

    def _frames(self) -> Iterator[Frame]:
        data = self._more(b"", 0)
        while data is not None and len(data) < 24:
            longer = self._more(data, 0)
            if longer is None:
                break
            data = longer
        if data is None:
            raise InputError(f"{self._path}: not a packet capture: the file is empty")
        if data[:4] in _CLASSIC:
            return self._classic(data, *_CLASSIC[data[:4]])
        if data[:4] == SECTION_MAGIC:
            return self._blocks(data)
        raise InputError(
            f"{self._path}: not a packet capture (pcap or pcapng): "
            f"it begins with {data[:4].hex(' ')}"
        )

    def _more(self, data: bytes, offset: int) -> bytes | None:
        """`data` from `offset` on with the next piece of the file behind it, None at its end."""
        try:
            piece = self._stream.read(max(_CHUNK_B, len(data) - offset))
        except (OSError, EOFError, zlib.error) as err:
            raise InputError(f"{self._path}: cannot read: {err}") from err
        if not piece:
            return None
        self._base += offset
        return data[offset:] + piece

    def _fail(self, offset: int, what: str) -> NoReturn:
        raise InputError(f"{self._path}: damaged at byte {self._base + offset}: {what}")

    def _ends_inside(self, offset: int, what: str) -> NoReturn:
        raise InputError(
            f"{self._path}: truncated: the file ends inside the {what} "
            f"that starts at byte {self._base + offset}"
        )

    def _classic(self, data: bytes, order: ByteOrder, fraction_s: float) -> Iterator[Frame]:
        """pcap: a header of 24 bytes, then records of 16 bytes and the frame."""
        if len(data) < 24:
            self._ends_inside(0, "file header")
        mark = "<" if order == "little" else ">"
        major, minor, link_type = Struct(mark + "4xHH12xI").unpack_from(data, 0)
        if (major, minor) != (2, 4):
            self._fail(4, f"pcap version {major}.{minor} instead of 2.4")
        # The upper bits tell of checksums, not of the link type.
        locate = locator(link_type & 0xFFFF, order)
        unpack = Struct(mark + "III4x").unpack_from
        offset = 24
        window: bytes | None = data
        while window is not None:
            data = window
            size = len(data)
            while size - offset >= 16:
                seconds, fraction, length = unpack(data, offset)
                if length > MAX_FRAME_B:
                    self._fail(offset, f"a frame of {length} bytes (at most {MAX_FRAME_B})")
                start = offset + 16
                end = start + length
                if end > size:
                    break
                offset = end
                packet = datagram(locate, data, start, end)
                if isinstance(packet, int):
                    self.skipped[SKIP_REASONS[packet]] += 1
                else:
                    yield seconds + fraction * fraction_s, packet
            window = self._more(data, offset)
            if window is not None:
                offset = 0
        if offset < len(data):
            self._ends_inside(offset, "record")

    def _blocks(self, data: bytes) -> Iterator[Frame]:
        """pcapng: blocks of type, length, body, length."""
        section = Section("little")
        offset = 0
        window: bytes | None = data
        while window is not None:
            data = window
            size = len(data)
            while size - offset >= 12:
                try:
                    kind, length = section.block_head(data, offset)
                    if kind == SECTION_BLOCK:
                        section = Section.starting_at(data, offset, section.timestamp_s)
                        length = section.block_head(data, offset)[1]
                    if length < 12 or length & 3 or length > MAX_BLOCK_B:
                        self._fail(offset, f"a block of {length} bytes")
                    after = offset + length
                    if after > size:
                        break
                    frame = section.read_block(data, kind, offset, after)
                except ValueError as err:
                    self._fail(offset, str(err))
                offset = after
                if frame is None:
                    continue
                locate, start, end = frame
                packet = datagram(locate, data, start, end)
                if isinstance(packet, int):
                    self.skipped[SKIP_REASONS[packet]] += 1
                else:
                    yield section.timestamp_s, packet
            window = self._more(data, offset)
            if window is not None:
                offset = 0
        if offset < len(data):
            self._ends_inside(offset, "block")
