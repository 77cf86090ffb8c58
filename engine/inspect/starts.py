"""Where one side of a TCP connection may begin, and what stands there.

Usually that is one place: behind the SYN. But whoever wants to hide something can forge a SYN,
or send bytes twice and let only one version arrive (a low TTL or a wrong checksum does). So
every start that the receiver may believe in is kept, up to a bound, and each is inspected.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.inspect.stream import PREFIX_B, SEQUENCE_MASK, StreamStart

# Starts at other sequence numbers than the likeliest one; the oldest is forgotten first.
MAX_ELSEWHERE = 4
# Other versions of the bytes of a start.
MAX_VERSIONS = 3
# For so many segments they are waited for.
PATIENCE = 1024
# So many segments of a connection whose beginning was not seen are inspected one by one.
MIDDLE_SEGMENTS = 64

# A client's first request of HTTP's, and a later one. They have no body, in which text could
# look like another.
_REQUESTS = frozenset({b"GET ", b"HEAD"})
_MAY_BE_REQUESTS = frozenset(b"GH")


class _Others:
    """The other starts of one side: elsewhere, and other versions of what stands there."""

    __slots__ = ("_elsewhere", "_patience", "_request", "_versions")

    def __init__(self) -> None:
        self._elsewhere: tuple[StreamStart, ...] = ()
        self._versions: tuple[StreamStart, ...] = ()
        self._request: StreamStart | None = None
        self._patience = PATIENCE

    @property
    def starts(self) -> tuple[StreamStart, ...]:
        return self._elsewhere + self._versions

    def watch(self, start: StreamStart) -> StreamStart:
        self._elsewhere = (*self._elsewhere[1 - MAX_ELSEWHERE :], start)
        self._patience = PATIENCE
        return start

    def watch_request(self, start: StreamStart) -> StreamStart:
        """A request takes the place of the one before."""
        self._elsewhere = tuple(other for other in self._elsewhere if other is not self._request)
        self._request = self.watch(start)
        return start

    def watch_version(self, version: StreamStart) -> bool:
        """False where there is no room for it."""
        self._patience = PATIENCE
        if len(self._versions) < MAX_VERSIONS:
            self._versions = (*self._versions, version)
            return True
        return False

    def contradict(self, start: StreamStart, sequence: int, payload: bytes) -> StreamStart | None:
        """What a start becomes if a segment that contradicts it stands; None if nothing new.

        While there is room both versions go on, and after that the later one.
        """
        version = start.overwritten_by(sequence, payload)
        if len(self._versions) == MAX_VERSIONS:
            self._versions = tuple(other for other in self._versions if other is not start)
        if any(version.same_as(other) for other in self._versions):
            return None
        return version if self.watch_version(version) else None

    def settle(self) -> None:
        self._patience -= 1
        waited = self._patience > 0
        self._elsewhere = tuple(s for s in self._elsewhere if waited and not s.complete)
        self._versions = tuple(s for s in self._versions if waited and not s.complete)


class Settled:
    """What is left of starts in which nothing is looked for: where the prefix is, and how long."""

    __slots__ = ("_first", "_length")
    noted_b = 0

    def __init__(self, first: int, length: int) -> None:
        self._first = first
        self._length = length

    def tells(self, sequence: int, data: bytes, at: int) -> bool:
        """As that of `Starts`."""
        return (sequence - self._first) & SEQUENCE_MASK < self._length

    def settled_by(self, acknowledgement: int) -> bool:
        """As that of `Starts`."""
        received = (acknowledgement - self._first) & SEQUENCE_MASK
        return self._length <= received <= SEQUENCE_MASK >> 1

    def woken(self) -> Starts:
        """What it was made of, to be changed."""
        starts = Starts(self._first)
        starts.complete = starts.settled = True
        starts._asks = isinstance(self, SettledRequest)
        starts._length = self._length
        return starts


class SettledRequest(Settled):
    """The same where it has begun with a request of HTTP's, which others may follow."""

    __slots__ = ()

    def tells(self, sequence: int, data: bytes, at: int) -> bool:
        """As that of `Starts`."""
        return data[at : at + 4] in _REQUESTS or super().tells(sequence, data, at)

    def settled_by(self, acknowledgement: int) -> bool:
        """Another request may come."""
        return False


class Starts(StreamStart):
    """The starts of what one side sends: itself the likeliest one, and others.

    `middle`: so many segments are still to be inspected by themselves. `watched`: `settle` has
    something to count. `settled`: nothing is looked for, until a segment tells something.
    `noted_b`: what `held_b` was when somebody took note of it.
    """

    __slots__ = ("_asks", "_length", "_others", "middle", "noted_b", "settled", "watched")

    def __init__(self, first: int, *, middle: int = 0) -> None:
        super().__init__(first)
        self.middle = middle
        self.watched = middle > 0
        self._length = PREFIX_B
        self.settled = False
        self.noted_b = 0
        self._others: _Others | None = None
        # Whether it has begun with a request of HTTP's.
        self._asks = False

    @property
    def others(self) -> tuple[StreamStart, ...]:
        """At most MAX_ELSEWHERE and MAX_VERSIONS."""
        return () if self._others is None else self._others.starts

    @property
    def held_b(self) -> int:
        """How many bytes are held beside the prefix."""
        if self._others is None:
            return self.waiting_b
        return self.waiting_b + sum(len(s.prefix) + s.waiting_b for s in self._others.starts)

    def tells(self, sequence: int, data: bytes, at: int) -> bool:
        """Whether a segment, whose payload stands in `data` from `at` on, may say anything new."""
        if not self.settled or (sequence - self.first) & SEQUENCE_MASK < self._length:
            return True
        return self._asks and data[at : at + 4] in _REQUESTS

    def settled_by(self, acknowledgement: int) -> bool:
        """Whether nothing will tell anything new if the peer has received all up to there."""
        return self.settled and self.at_rest().settled_by(acknowledgement)

    def may_begin(self, first: int) -> None:
        """A SYN names a start. Until the peer acknowledges one, nobody knows which is real."""
        if self.first != first & SEQUENCE_MASK and not self.expects(first):
            self._watched().watch(StreamStart(first))

    def expects(self, first: int) -> bool:
        """Whether this is one of the other starts."""
        return any(other.first == first & SEQUENCE_MASK for other in self.others)

    def begins(self, first: int) -> None:
        """The peer has acknowledged a SYN, before there was any payload: there it begins.

        Unless nobody has seen that SYN: then it is one start more.
        """
        for other in self.others:
            if other.first == first & SEQUENCE_MASK:
                self.first, other.first = other.first, self.first
                return
        self.may_begin(first)

    def take(self, sequence: int, payload: bytes, length: int) -> Sequence[StreamStart]:
        """Take a segment in; gives the starts whose prefix it has changed, to be inspected.

        `length` is the payload's on the wire.
        """
        if self._others is not None or not self.continues(sequence):
            return self._take_unusual(sequence, payload, length)
        self.add(sequence, payload, length)
        if self.prefix[0] in _MAY_BE_REQUESTS:
            if self._asks and payload[:4] in _REQUESTS:
                request = self._watched().watch_request(StreamStart(sequence))
                request.add(sequence, payload, length)
                return (self, request)
            self._asks = self.prefix[:4] in _REQUESTS
        return (self,)

    def settle(self) -> None:
        """Let go what has been looked at and will not change."""
        if self.complete and self.prefix:
            self._length = min(PREFIX_B, len(self.prefix))
            self.release()
        if self._others is not None:
            self._others.settle()
            if not self._others.starts:
                self._others = None
        if self.middle:
            self.middle -= 1
        self.watched = self._others is not None or self.middle > 0
        self.settled = self.complete and not self.watched

    def at_rest(self) -> Settled:
        """These starts as little as they can be; only for such as are settled."""
        kind = SettledRequest if self._asks else Settled
        return kind(self.first, self._length)

    def _take_unusual(self, sequence: int, payload: bytes, length: int) -> list[StreamStart]:
        self._watch_for(sequence, payload)
        changed = []
        for start in (self, *self.others):
            if start.complete:
                continue
            if start.contradicted_by(sequence, payload):
                version = self._watched().contradict(start, sequence, payload)
                if version is not None and version.prefix:
                    changed.append(version)
            if start.add(sequence, payload, length):
                changed.append(start)
        return changed

    def _watch_for(self, sequence: int, payload: bytes) -> None:
        """Begin another start where a segment asks for one."""
        offset = self.offset(sequence)
        if self.complete and 0 <= offset < self._length:
            if not self.expects(self.first):
                self._watched().watch_version(StreamStart(self.first))
        elif self.expects(sequence):
            pass
        elif self._asks and offset > 0 and payload[:4] in _REQUESTS:
            self._watched().watch_request(StreamStart(sequence))
        elif not -PREFIX_B < offset < PREFIX_B and not self._has_begun():
            # No SYN that was seen explains it.
            self._watched().watch(StreamStart(sequence))

    def _has_begun(self) -> bool:
        return any(start.begun for start in (self, *self.others))

    def _watched(self) -> _Others:
        """The other starts, of which there will now be one more."""
        if self._others is None:
            self._others = _Others()
        self.watched = True
        self.settled = False
        return self._others
