"""The turns of a flow: who spoke when, how much, and how it began.

A turn is all that one side sends until the other answers. Protocols without a readable byte
still show themselves by the sizes of their first turns.
"""

from __future__ import annotations

MAX_TURNS = 8
# Of so many turns the first bytes are kept, and of each turn so many.
TURNS_WITH_BYTES = 4
HEAD_B = 128
# Of each turn so many ends of packets.
MAX_ENDS = 16
# A flow that goes on for longer than this is past its first words, whoever sent them.
MAX_FOLLOWED_B = 16384


class Turns:
    """The first MAX_TURNS turns of a flow, counted from 0, in payload bytes.

    `begun` is how many have begun; it ends one after the last that is kept, so that the last
    one is known to be complete.
    """

    __slots__ = ("_client_first", "_ends", "_heads", "_sizes", "begun")

    def __init__(self) -> None:
        self.begun = 0
        self._client_first = True
        self._sizes: list[int] = []
        self._heads: list[bytes] = []
        self._ends: list[tuple[int, ...]] = []

    def add(self, from_client: bool, size: int, data: bytes) -> None:
        """Take in `size` more bytes of one side; `data` is as much of them as is at hand."""
        if self.over:
            return
        if not self.begun or from_client is not self._is_from_client(self.begun - 1):
            self._begin(from_client)
            if self.begun > MAX_TURNS:
                return
        self._sizes[-1] += size
        ends = self._ends[-1]
        if len(ends) < MAX_ENDS:
            self._ends[-1] = (*ends, self._sizes[-1])
        if self.begun <= TURNS_WITH_BYTES:
            head = self._heads[-1]
            self._heads[-1] = head + data[: HEAD_B - len(head)]

    def _begin(self, from_client: bool) -> None:
        if not self.begun:
            self._client_first = from_client
        self.begun += 1
        if self.begun <= MAX_TURNS:
            self._sizes.append(0)
            self._ends.append(())
        if self.begun <= TURNS_WITH_BYTES:
            self._heads.append(b"")

    def _is_from_client(self, turn: int) -> bool:
        return self._client_first is (turn % 2 == 0)

    @property
    def over(self) -> bool:
        """Whether nothing more is taken in."""
        return self.begun > MAX_TURNS or self.total > MAX_FOLLOWED_B

    @property
    def total(self) -> int:
        """What both sides have sent."""
        return sum(self._sizes)

    def sent(self, from_client: bool) -> int:
        """What one side has sent."""
        return sum(self._sizes[0 if from_client is self._client_first else 1 :: 2])

    def size(self, turn: int) -> int | None:
        """How much of a turn has come, None before it has begun."""
        return self._sizes[turn] if 0 <= turn < len(self._sizes) else None

    def complete(self, turn: int) -> bool:
        """Whether the other side has answered."""
        return self.begun > turn + 1

    def from_client(self, turn: int) -> bool | None:
        """Whether a turn is of the side that opened the flow, None before it has begun."""
        return self._is_from_client(turn) if 0 <= turn < self.begun else None

    def ends_at(self, turn: int, offset: int) -> bool:
        """Whether one of the first MAX_ENDS packets of a turn ended `offset` bytes into it."""
        return 0 <= turn < len(self._ends) and offset in self._ends[turn]

    def head(self, turn: int) -> bytes:
        """The first bytes of a turn, as far as they have come; at most HEAD_B."""
        return self._heads[turn] if 0 <= turn < len(self._heads) else b""


NO_TURNS = Turns()
"""Of a flow that is not followed."""
