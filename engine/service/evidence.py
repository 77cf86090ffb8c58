"""The packets that were detected, for people who want to see them: a hex dump and a capture.

The hex dump is a text file, in the form that `text2pcap` reads. The capture beside it is
pcapng, each packet with its signature in the comment, for Wireshark and `tools/sigtest`.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from engine.errors import InputError
from engine.service.sinks import AppendFile
from engine.sources.pcapng_blocks import ends_whole, packet, section

CAPTURE_SUFFIX = ".pcapng"
# Files beside the current one, of each kind: NAME.1 is the latest of them.
KEPT = 3
_FILES = 2 * (KEPT + 1)
_ROW_B = 16
# ASCII as it is, a dot for the rest.
_SHOWN = bytes(byte if 0x20 <= byte < 0x7F else 0x2E for byte in range(256))


@dataclass(frozen=True, slots=True)
class Exhibit:
    """A packet that was detected, as an IP datagram, and what is said of it."""

    time_ns: int
    datagram: bytes
    remark: str


class Evidence:
    """Writes exhibits to both files; together with older ones they stay below `max_b` bytes."""

    def __init__(self, path: Path, max_b: int) -> None:
        """Open both files. Raises InputError."""
        if path.suffix == CAPTURE_SUFFIX:
            raise InputError(
                f"the detection log is a hex dump, and a capture {path.name} is written beside it: "
                f"name it {path.with_suffix('.log').name}, for instance"
            )
        application = f"btblocker {importlib.metadata.version('btblocker')}"
        try:
            self._dump = _RotatedFile(path, max_b // _FILES)
            self._capture = _RotatedFile(
                path.with_suffix(CAPTURE_SUFFIX), max_b // _FILES, section(application)
            )
        except OSError as error:
            raise InputError(f"cannot write the detection log: {error}") from error

    def write(self, exhibit: Exhibit) -> None:
        """Write one packet. Raises OSError."""
        datagram = exhibit.datagram
        wire_len = max(_wire_len(datagram), len(datagram))
        self._capture.write(packet(datagram, wire_len, exhibit.time_ns, exhibit.remark))
        moment = datetime.fromtimestamp(exhibit.time_ns // 1000 / 1e6, UTC)
        lines = [f"{moment:%Y-%m-%dT%H:%M:%S.%fZ} {exhibit.remark}", *_hex_dump(datagram), "", ""]
        self._dump.write("\n".join(lines).encode())

    def reopen(self) -> None:
        """Go on in new files, if the old ones were renamed. Raises OSError."""
        self._dump.reopen()
        self._capture.reopen()

    def close(self) -> None:
        self._dump.close()
        self._capture.close()


class _RotatedFile:
    """A file that gives way to a new one when it has grown to `max_b` bytes.

    `header` stands in front of what is written to it, each time it is opened.
    """

    def __init__(self, path: Path, max_b: int, header: bytes = b"") -> None:
        self._path = path
        self._max_b = max_b
        self._header = header
        if header and path.exists():
            with path.open("rb") as file:
                whole = ends_whole(file)
            if not whole:  # the machine went down while it was written
                self._shift()
        self._file = AppendFile(path)
        self._fresh = True

    def write(self, data: bytes) -> None:
        size_b = self._file.size_b
        if size_b and size_b + len(self._header) + len(data) > self._max_b:
            self._shift()
            self.reopen()
        # In one piece, so that a full disk leaves no header without a packet.
        self._file.write(self._header + data if self._fresh else data)
        self._fresh = False

    def reopen(self) -> None:
        self._file.reopen()
        self._fresh = True

    def close(self) -> None:
        self._file.close()

    def _shift(self) -> None:
        """NAME.2 becomes NAME.3, NAME.1 NAME.2, and NAME NAME.1."""
        names = [self._path, *(Path(f"{self._path}.{n}") for n in range(1, KEPT + 1))]
        for new, old in zip(reversed(names[1:]), reversed(names[:-1]), strict=True):
            if old.exists():
                old.replace(new)


def _wire_len(datagram: bytes) -> int:
    """The length that an IP header gives (RFC 791, RFC 8200)."""
    if datagram[0] >> 4 == 4:
        return int.from_bytes(datagram[2:4], "big")
    return 40 + int.from_bytes(datagram[4:6], "big")


def _hex_dump(data: bytes) -> Iterator[str]:
    for offset in range(0, len(data), _ROW_B):
        row = data[offset : offset + _ROW_B]
        text = row.translate(_SHOWN).decode("ascii")
        yield f"{offset:06x}  {row.hex(' '):<{3 * _ROW_B}} {text}"
