"""Where one side of a TCP connection may begin, and what stands there.

Usually that is one place: behind the SYN. But whoever wants to hide something can forge a SYN,
or send bytes twice and let only one version arrive (a low TTL or a wrong checksum does). So
every start that the receiver may believe in is kept, up to a bound, and each is inspected.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.inspect.stream import PREFIX_B, SEQUENCE_MASK, StreamStart

# Other starts than the likeliest one; the oldest is forgotten first.
MAX_OTHERS = 7
# For so many segments they are waited for.
PATIENCE = 1024
# So many segments of a connection whose beginning was not seen are inspected one by one.
MIDDLE_SEGMENTS = 64

# A client's first request of HTTP's, and a later one. They have no body, in which text could
# look like another.
_REQUESTS = frozenset({b"GET ", b"HEAD"})
_MAY_BE_REQUESTS = frozenset(b"GH")


class Starts(StreamStart):
    """The starts of what one side sends: itself the likeliest one, and others.

    `middle`: so many segments are still to be inspected by themselves. `watched`: `settle` has
    something to count.
    """

    __slots__ = (
        "_asks",
        "_length",
        "_others",
        "_patience",
        "_request",
        "_settled",
        "middle",
        "watched",
    )

    def __init__(self, first: int, *, middle: int = 0) -> None:
        super().__init__(first)
        self._length = PREFIX_B
        self.middle = middle
        self._settled = False
        self.watched = middle > 0
        self._others: tuple[StreamStart, ...] = ()
        self._patience = 0
        self._asks = False
        self._request: StreamStart | None = None

    def tells(self, sequence: int, data: bytes, at: int) -> bool:
        """Whether a segment, whose payload stands in `data` from `at` on, may say anything new."""
        if not self._settled or (sequence - self.first) & SEQUENCE_MASK < self._length:
            return True
        return self._asks and data[at : at + 4] in _REQUESTS

    def may_begin(self, first: int) -> None:
        """A SYN names a start. Until the peer acknowledges one, nobody knows which is real."""
        if self.first != first & SEQUENCE_MASK and not self.expects(first):
            self._watch(StreamStart(first))

    def expects(self, first: int) -> bool:
        """Whether this is one of the other starts."""
        return any(other.first == first & SEQUENCE_MASK for other in self._others)

    def begins(self, first: int) -> None:
        """The peer has acknowledged a SYN, before there was any payload: there it begins.

        Unless nobody has seen that SYN: then it is one start more.
        """
        for other in self._others:
            if other.first == first & SEQUENCE_MASK:
                self.first, other.first = other.first, self.first
                return
        self.may_begin(first)

    def take(self, sequence: int, payload: bytes, length: int) -> Sequence[StreamStart]:
        """Take a segment in; gives the starts whose prefix it has changed, to be inspected.

        `length` is the payload's on the wire.
        """
        if self._others or not self.continues(sequence):
            self._watch_for(sequence, payload)
            return self._add_to_all(sequence, payload, length)
        self.add(sequence, payload, length)
        if self.prefix[0] not in _MAY_BE_REQUESTS:
            return (self,)
        if self._asks and payload[:4] in _REQUESTS:
            request = self._watch_request(sequence)
            request.add(sequence, payload, length)
            return (self, request)
        self._asks = self.prefix[:4] in _REQUESTS
        return (self,)

    def settle(self) -> None:
        """Let go what has been looked at and will not change."""
        if self.complete and self.prefix:
            self._length = len(self.prefix)
            self.release()
        if self._others:
            self._patience -= 1
            self._others = tuple(o for o in self._others if not o.complete and self._patience > 0)
        if self.middle:
            self.middle -= 1
        self.watched = bool(self._others or self.middle)
        self._settled = self.complete and not self.watched

    def _add_to_all(self, sequence: int, payload: bytes, length: int) -> list[StreamStart]:
        changed = []
        for start in (self, *self._others):
            if start.complete:
                continue
            if start.contradicted_by(sequence, payload):
                version = start.overwritten_by(sequence, payload)
                if not any(version.same_as(other) for other in self._others):
                    self._watch(version)
                    changed.append(version)
            if start.add(sequence, payload, length):
                changed.append(start)
        return [start for start in changed if start.prefix]

    def _watch_for(self, sequence: int, payload: bytes) -> None:
        """Begin another start where a segment asks for one."""
        offset = self.offset(sequence)
        if self.complete and 0 <= offset < self._length:
            # The first bytes come again, and what they were is forgotten.
            if not self.expects(self.first):
                self._watch(StreamStart(self.first))
        elif self.expects(sequence):
            pass
        elif self._asks and offset > 0 and payload[:4] in _REQUESTS:
            self._watch_request(sequence)
        elif not -PREFIX_B < offset < PREFIX_B and not self._has_begun():
            # No SYN that was seen explains it.
            self._watch(StreamStart(sequence))

    def _has_begun(self) -> bool:
        return any(start.begun for start in (self, *self._others))

    def _watch_request(self, sequence: int) -> StreamStart:
        self._others = tuple(other for other in self._others if other is not self._request)
        self._request = StreamStart(sequence)
        self._watch(self._request)
        return self._request

    def _watch(self, start: StreamStart) -> None:
        self._others = (*self._others[1 - MAX_OTHERS :], start)
        self._patience = PATIENCE
        self.watched = True
        self._settled = False
