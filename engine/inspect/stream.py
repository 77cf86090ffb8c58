"""The start of one direction of a TCP connection, put in order.

A bounded prefix is enough: protocols show what they are in their first bytes, and
Hyperscan's block mode wants them in one piece.
"""

from __future__ import annotations

PREFIX_B = 2048
# Stretches that may wait for what is missing before them; more are not kept.
MAX_PENDING = 16

_SEQUENCE_SPACE = 1 << 32
_HALF = _SEQUENCE_SPACE // 2


class StreamStart:
    """The first PREFIX_B bytes that one side sent, as far as they have arrived in order.

    Where segments overlap, what came first stands. Never holds more than PREFIX_B bytes.
    `complete`: the prefix is as long as it will get.
    """

    __slots__ = ("_first", "_furthest", "_pending", "_torn", "complete", "prefix")

    def __init__(self, first_sequence: int) -> None:
        self.prefix = b""
        self.complete = False
        self._first = first_sequence
        self._furthest = 0
        self._torn = False
        # What waits, by its offset in the stream: stretches that do not overlap, in order.
        self._pending: dict[int, bytes] = {}

    @property
    def begun(self) -> bool:
        """Whether its first byte has come."""
        return self.complete or bool(self.prefix)

    def release(self) -> None:
        """Forget the bytes; only for one that is complete and has been looked at."""
        self.prefix = b""

    def add(self, sequence: int, payload: bytes) -> bool:
        """Take a segment in, unless complete; true when the prefix grew.

        `sequence` is the segment's first byte's sequence number, modulo 2^32 (RFC 9293).
        """
        known = len(self.prefix)
        # Less than zero, where it begins before the first byte.
        offset = (sequence - self._first + _HALF) % _SEQUENCE_SPACE - _HALF
        if offset < known:
            payload = payload[known - offset :]
            offset = known
        if not payload or offset >= PREFIX_B:
            return False
        payload = payload[: PREFIX_B - offset]
        if self._pending:
            self._fill(offset, payload)
        elif offset == known:
            self.prefix += payload
        else:
            self._pending[offset] = payload
        self.complete = len(self.prefix) >= PREFIX_B
        return len(self.prefix) > known

    def received(self, sequence: int, captured: int, length: int) -> int:
        """How many bytes have come with this segment, of whose `length` so much was captured.

        In order, for the first PREFIX_B. From there on, or after bytes that were not captured
        and never will be, nothing that is missing is waited for.
        """
        self._torn = self._torn or captured < length
        offset = (sequence - self._first + _HALF) % _SEQUENCE_SPACE - _HALF
        self._furthest = max(self._furthest, offset + length)
        return self._furthest if self.complete or self._torn else len(self.prefix)

    def _fill(self, offset: int, payload: bytes) -> None:
        """Put a stretch into the gaps between those that wait, and append what now follows."""
        end = offset + len(payload)
        at = offset
        gaps = {}
        for start, waiting in self._pending.items():
            if at < min(start, end):
                gaps[at] = payload[at - offset : start - offset]
            at = max(at, start + len(waiting))
        if at < end:
            gaps[at] = payload[at - offset :]
        # What continues the prefix waits for nothing.
        self.prefix += gaps.pop(len(self.prefix), b"")
        for start, new in gaps.items():
            if len(self._pending) < MAX_PENDING:
                self._pending[start] = new
        pending = dict(sorted(self._pending.items()))
        while (following := pending.pop(len(self.prefix), None)) is not None:
            self.prefix += following
        self._pending = pending
