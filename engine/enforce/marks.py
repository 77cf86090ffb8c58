"""Marks of the banned addresses, in memory that the XDP program reads."""

from __future__ import annotations

import mmap
import struct

# 4 MB. With 100,000 bans one innocent address in 40 shares a mark with one of them and pays
# for a look-up; with a million, one in 5.
MARK_BITS = 22

_WORD = 0xFFFF_FFFF
_MANY = 0xFFFF


class Marks:
    """A byte for each hash of an address: 1 where some banned address has it.

    Counts how many have, to know when none is left. Shared with forked children.
    """

    def __init__(self, map_fd: int) -> None:
        """Map the memory of `ban_marks` in bpf/blocker.bpf.c. Raises OSError."""
        self._marks = mmap.mmap(map_fd, 1 << MARK_BITS)
        self._shared = mmap.mmap(-1, 2 << MARK_BITS)
        self._counts = memoryview(self._shared).cast("H")

    def add(self, address: bytes) -> None:
        """Mark an address that was put into a ban map."""
        mark = mark_of(address)
        self._counts[mark] = min(self._counts[mark] + 1, _MANY)
        self._marks[mark] = 1

    def discard(self, address: bytes) -> None:
        """Unmark an address that was taken out of a ban map, unless others have its mark."""
        mark = mark_of(address)
        count = self._counts[mark]
        if count < _MANY:  # more were not counted
            self._counts[mark] = max(count - 1, 0)
        if count <= 1:
            self._marks[mark] = 0

    def close(self) -> None:
        self._counts.release()
        self._shared.close()
        self._marks.close()


def mark_of(address: bytes) -> int:
    """The same as in bpf/blocker.bpf.c, whose words are in the machine's own order."""
    if len(address) == 4:
        mixed: int = struct.unpack("=I", address)[0] * 0x9E3779B1
    else:
        a, b, c, d = struct.unpack("=4I", address)
        mixed = a * 0x9E3779B1 + b * 0x85EBCA77 + c * 0xC2B2AE3D + d * 0x27D4EB2F & _WORD
        mixed = (mixed ^ mixed >> 15) * 0x9E3779B1
    return (mixed & _WORD) >> 32 - MARK_BITS
