"""Where one side of a TCP connection may begin, and what stands there.

Usually that is one place: behind the SYN. But whoever wants to hide something can forge a SYN,
or send bytes twice and let only one version arrive (a low TTL or a wrong checksum does). So
every start that the receiver may believe in is kept, up to a bound, and each is inspected.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.inspect.preface import MAY_BE_PREFACES, Preface
from engine.inspect.stream import PREFIX_B, SEQUENCE_MASK, StreamStart

# Other starts than the likeliest one; the oldest is forgotten first.
MAX_OTHERS = 7
# For so many segments they are waited for.
PATIENCE = 1024
# So many segments of a connection whose beginning was not seen are inspected one by one.
MIDDLE_SEGMENTS = 64

_METHODS = frozenset({b"GET ", b"POST", b"HEAD", b"PUT "})


class Starts:
    """The starts of what one side sends: `main`, the likeliest, and others.

    `middle`: so many segments are still to be inspected by themselves. `settled`: a segment
    that begins `length` bytes or more after `first`, modulo 2^32, says nothing new.
    """

    __slots__ = (
        "_asks",
        "_begun",
        "_others",
        "_patience",
        "_request",
        "first",
        "length",
        "main",
        "middle",
        "settled",
    )

    def __init__(self, first: int, *, middle: int = 0) -> None:
        self.main = StreamStart(first)
        self.first = self.main.first
        self.length = PREFIX_B
        self.middle = middle
        self.settled = False
        self._others: list[StreamStart] = []
        self._patience = 0
        self._begun = False
        # Whether it has begun with a request of HTTP's, and a later one.
        self._asks = False
        self._request: StreamStart | None = None

    def may_begin(self, first: int) -> None:
        """A SYN names a start. Until the peer acknowledges one, nobody knows which is real."""
        if self.first != first & SEQUENCE_MASK and not self.expects(first):
            self._watch(StreamStart(first))

    def expects(self, first: int) -> bool:
        """Whether this is one of the other starts."""
        return any(other.first == first & SEQUENCE_MASK for other in self._others)

    def begins(self, first: int) -> None:
        """The peer has acknowledged a SYN, before any payload: there it begins.

        Unless nobody has seen that SYN: then it is one start more.
        """
        for position, other in enumerate(self._others):
            if other.first == first & SEQUENCE_MASK:
                self.main, self._others[position] = other, self.main
                self.first = other.first
                return
        self.may_begin(first)

    def take(
        self, sequence: int, payload: bytes, length: int, preface: Preface | None
    ) -> Sequence[bytes]:
        """Take a segment in; gives the starts that it has changed, to be inspected.

        `length` is the payload's on the wire. What follows what is said to a proxy, or by one,
        counts as a start of its own; `preface` says how much that is.
        """
        buffers = []
        for start in self._add(sequence, payload, length):
            prefix = start.prefix
            if not prefix:
                continue
            buffers.append(prefix)
            if preface is not None and prefix[0] in MAY_BE_PREFACES:
                start.preface = preface(prefix)
                if 0 < start.preface < len(prefix):
                    buffers.append(prefix[start.preface :])
        self._begun = True
        self._asks = self._asks or self.main.prefix[:4] in _METHODS
        return buffers

    def settle(self) -> None:
        """Let go what has been looked at and will not change."""
        if self.main.complete:
            self.length = len(self.main.prefix) or self.length
            self.main.release()
        if self._others:
            self._patience -= 1
            self._others = [o for o in self._others if not o.complete and self._patience > 0]
        if self.middle:
            self.middle -= 1
        self.settled = not (self._others or self.middle or self._asks or not self.main.complete)

    def _add(self, sequence: int, payload: bytes, length: int) -> list[StreamStart]:
        """Add a segment to every start that it is for; gives those that have changed."""
        main = self.main
        requests = self._asks and payload[:4] in _METHODS
        if main.continues(sequence) and not (self._others or requests or main.complete):
            return [main] if main.add(sequence, payload, length) else []
        self._watch_for(sequence, requests=requests)
        changed = []
        for start in (main, *self._others):
            if start.complete:
                continue
            if start.contradicted_by(sequence, payload):
                version = start.overwritten_by(sequence, payload)
                if not any(version.same_as(o) for o in self._others):
                    self._watch(version)
                    changed.append(version)
            if start.add(sequence, payload, length):
                changed.append(start)
        return changed

    def _watch_for(self, sequence: int, *, requests: bool) -> None:
        """Begin another start where a segment asks for one."""
        offset = self.main.offset(sequence)
        if self.main.complete and 0 <= offset < self.length:
            # The first bytes come again, and what they were is forgotten.
            if not self.expects(self.first):
                self._watch(StreamStart(self.first))
        elif requests and offset > 0 and not self.expects(sequence):
            if self._request in self._others:
                self._others.remove(self._request)
            self._request = StreamStart(sequence)
            self._watch(self._request)
        elif not self._begun and not -PREFIX_B < offset < PREFIX_B and not self.expects(sequence):
            # No SYN that was seen explains it.
            self._watch(StreamStart(sequence))

    def _watch(self, start: StreamStart) -> None:
        self._others = [*self._others[-(MAX_OTHERS - 1) :], start]
        self._patience = PATIENCE
        self.settled = False
