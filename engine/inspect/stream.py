"""The start of one direction of a TCP connection, put in order.

A bounded prefix is enough: protocols show what they are in their first bytes, and
Hyperscan's block mode wants them in one piece.
"""

from __future__ import annotations

PREFIX_B = 2048
# What may wait for a missing segment; more is not kept, and its place stays a hole.
MAX_PENDING = 16

_SEQUENCE_SPACE = 1 << 32


class StreamStart:
    """The first PREFIX_B bytes that one side sent, as far as they have arrived in order.

    Where segments overlap, what came first stands.
    """

    __slots__ = ("_next", "_pending", "prefix")

    def __init__(self, first_sequence: int) -> None:
        self.prefix = b""
        self._next = first_sequence
        self._pending: dict[int, bytes] = {}

    @property
    def complete(self) -> bool:
        """Whether the prefix is as long as it will get."""
        return len(self.prefix) >= PREFIX_B

    def add(self, sequence: int, payload: bytes) -> bool:
        """Take a segment in; true when the prefix grew.

        `sequence` is the segment's first byte's sequence number, modulo 2^32 (RFC 9293).
        """
        if not self._append(sequence, payload):
            ahead = (sequence - self._next) % _SEQUENCE_SPACE
            if ahead < PREFIX_B and len(self._pending) < MAX_PENDING:
                self._pending.setdefault(sequence, payload)
            return False
        while any(self._append(s, p) for s, p in self._pending.items()):
            pass
        return True

    def _append(self, sequence: int, payload: bytes) -> bool:
        """Append what is new of a segment that continues the prefix; false if nothing is."""
        known = (self._next - sequence) % _SEQUENCE_SPACE
        if known >= len(payload):
            return False
        new = payload[known : known + PREFIX_B - len(self.prefix)]
        self.prefix += new
        self._next = (self._next + len(new)) % _SEQUENCE_SPACE
        return bool(new)
