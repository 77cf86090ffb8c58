"""The start of one direction of a TCP connection, put in order.

A bounded prefix is enough: protocols show what they are in their first bytes, and
Hyperscan's block mode wants them in one piece.
"""

from __future__ import annotations

PREFIX_B = 2048

SEQUENCE_MASK = (1 << 32) - 1
_HALF = 1 << 31


class StreamStart:
    """The first PREFIX_B bytes that one side sent from `first` on, as far as they are in order.

    Where segments overlap, what came first stands; `contradicted_by` says whether that makes a
    difference. What arrives ahead of a gap waits for it, in any number of pieces: never more
    than PREFIX_B bytes, and as many of a mask.

    `first` is the sequence number of the first byte, modulo 2^32 (RFC 9293). `complete`: the
    prefix is as long as it will get. `preface` bytes of it were said to a proxy.
    """

    __slots__ = (
        "_furthest",
        "_torn",
        "_waiting",
        "_waits",
        "complete",
        "first",
        "preface",
        "prefix",
    )

    def __init__(self, first: int) -> None:
        self.first = first & SEQUENCE_MASK
        self.prefix = b""
        self.preface = 0
        self.complete = False
        self._furthest = 0
        self._torn = False
        # Little-endian integers, so that a byte's place is its offset in the stream: the bytes
        # that wait, and 0xff where there is one.
        self._waiting = 0
        self._waits = 0

    def release(self) -> None:
        """Forget the bytes; only for one that is complete and has been looked at."""
        self.prefix = b""

    def continues(self, sequence: int) -> bool:
        """Whether a segment begins where the prefix, which grows, ends; nothing waits beyond."""
        return (
            not self.complete
            and not self._waits
            and (sequence - self.first - len(self.prefix)) & SEQUENCE_MASK == 0
        )

    @property
    def waiting_b(self) -> int:
        """How much memory what waits for a gap takes, with its mask."""
        return self._waits.bit_length() // 4

    @property
    def begun(self) -> bool:
        """Whether anything has come."""
        return self.complete or bool(self.prefix or self._waits)

    def offset(self, sequence: int) -> int:
        """Where in the stream a segment begins; less than zero, where before its first byte."""
        return ((sequence - self.first + _HALF) & SEQUENCE_MASK) - _HALF

    def add(self, sequence: int, payload: bytes, length: int = 0) -> bool:
        """Take a segment in, unless complete; true when the prefix grew.

        `length` is what it had on the wire. What was not captured of that never comes, so the
        start ends there.
        """
        known = len(self.prefix)
        offset = self.offset(sequence)
        if offset == known and not self._waits:
            self.prefix += payload[: PREFIX_B - known]
        elif offset < PREFIX_B and offset + len(payload) > known:
            self._put(*_placed(offset, payload))
        grown = len(self.prefix)
        if grown >= PREFIX_B or (len(payload) < length and 0 <= offset <= grown):
            self.complete = True
        return grown > known

    def contradicted_by(self, sequence: int, payload: bytes) -> bool:
        """Whether a segment brings other bytes where some have come already."""
        offset = self.offset(sequence)
        known = len(self.prefix)
        if not self._waits and offset >= 0:
            return self.prefix[offset : offset + len(payload)] != payload[: max(0, known - offset)]
        value, mask = _placed(offset, payload)
        all_value, all_mask = self._all()
        return bool((value ^ all_value) & mask & all_mask)

    def overwritten_by(self, sequence: int, payload: bytes) -> StreamStart:
        """What has come so far if a segment's bytes stand, and not those that came before."""
        other = StreamStart(self.first)
        offset = self.offset(sequence)
        if not self._waits and 0 <= offset <= len(self.prefix):
            behind = self.prefix[offset + len(payload) :]
            other.prefix = (self.prefix[:offset] + payload + behind)[:PREFIX_B]
        else:
            value, mask = _placed(offset, payload)
            all_value, all_mask = self._all()
            other._hold(value | all_value & ~mask, mask | all_mask)
        other.complete = len(other.prefix) >= PREFIX_B
        return other

    def same_as(self, other: StreamStart) -> bool:
        """Whether the same bytes have come."""
        return (self.first, self.prefix, self._waiting, self._waits) == (
            other.first,
            other.prefix,
            other._waiting,
            other._waits,
        )

    def received(self, sequence: int, captured: int, length: int) -> int:
        """How many bytes have come with this segment, of whose `length` so much was captured.

        In order, for the first PREFIX_B. From there on, or after bytes that were not captured
        and never will be, nothing that is missing is waited for.
        """
        self._torn = self._torn or captured < length
        self._furthest = max(self._furthest, self.offset(sequence) + length)
        return self._furthest if self.complete or self._torn else len(self.prefix)

    def _all(self) -> tuple[int, int]:
        """What has come, in order or not, and the mask of it."""
        value = int.from_bytes(self.prefix, "little")
        return value | self._waiting, _mask(0, len(self.prefix)) | self._waits

    def _put(self, value: int, mask: int) -> None:
        """Put bytes where there are none yet, and bring the prefix up to the first gap."""
        all_value, all_mask = self._all()
        self._hold(all_value | value & ~all_mask, all_mask | mask)

    def _hold(self, value: int, mask: int) -> None:
        # The lowest bit that is not set in the mask begins the first gap.
        in_order = ((mask + 1) & ~mask).bit_length() // 8
        known = _mask(0, in_order)
        self.prefix = (value & known).to_bytes(in_order, "little")
        self._waits = mask & ~known
        self._waiting = value & self._waits


def _mask(start: int, end: int) -> int:
    return (1 << 8 * end) - (1 << 8 * start)


def _placed(offset: int, payload: bytes) -> tuple[int, int]:
    """A segment's bytes at their place in the first PREFIX_B, and the mask of them."""
    if offset < 0:
        payload, offset = payload[-offset:], 0
    # Also where all of it is beyond: a mask of nothing, two gigabytes in, would take as many.
    offset = min(offset, PREFIX_B)
    payload = payload[: PREFIX_B - offset]
    return int.from_bytes(payload, "little") << 8 * offset, _mask(offset, offset + len(payload))
