"""Flows: what is remembered between the packets of one conversation, in bounded memory."""

from __future__ import annotations

from engine.config import DEFAULT_MAX_FLOWS
from engine.inspect.followed import NOT_BEGUN, FollowedTurns
from engine.inspect.packet import reverse
from engine.inspect.starts import Settled, Starts

# Of all streams together, beside their prefixes: what waits for gaps, and other starts.
MAX_HELD_B = 128 * 1024 * 1024

# One for all flows: an empty set takes more memory than the rest of a flow.
_NOTHING: frozenset[str] = frozenset()


class Flow:
    """A conversation between two endpoints, both directions.

    `dropped`: a signature has decided it; every later packet goes the same way.
    `due`: at so many packets it is looked at again, even if they tell nothing.
    `opener`: the key of the direction that opened it, None where that was not seen.
    `reported`: ids of signatures that have been detected in it already.
    `turns`: how it began, from its first payload on for as long as signatures follow it;
    then None.
    `two_way`: both sides have sent something.
    `proxied`: the key of the direction that has asked a proxy for the connection.
    """

    __slots__ = (
        "dropped",
        "due",
        "opener",
        "packets",
        "payload_packets",
        "proxied",
        "reported",
        "turns",
        "two_way",
    )

    def __init__(self, opener: bytes | None) -> None:
        self.dropped = False
        self.due = 0
        self.packets = 0
        self.payload_packets = 0
        self.opener = opener
        self.reported = _NOTHING
        self.turns: FollowedTurns | None = NOT_BEGUN
        self.two_way = False
        self.proxied: bytes | None = None


class Side:
    """One direction of a flow; `starts` is how what it sent began, for TCP."""

    __slots__ = ("flow", "starts")

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.starts: Starts | Settled | None = None

    @property
    def noted_b(self) -> int:
        """How many bytes it holds, as `FlowTable.hold` was told."""
        return 0 if self.starts is None else self.starts.noted_b

    def awake(self) -> Starts | None:
        """Its starts, to be changed."""
        if isinstance(self.starts, Settled):
            self.starts = self.starts.woken()
        return self.starts


class FlowTable:
    """Flows by the key of either direction, the least recently used forgotten first.

    Two generations make that cheap: a flow found in the old one moves to the young one, and
    when the young one is full the old one goes. So a known flow costs one dict access, a
    flow idle for longer than a generation lasts is forgotten, and at most `max_flows` are
    kept. A generation is full as well when what its sides hold exceeds half of `max_held_b`.
    """

    def __init__(
        self,
        max_flows: int = DEFAULT_MAX_FLOWS,
        *,
        first_seen_opens: bool = True,
        max_held_b: int = MAX_HELD_B,
    ) -> None:
        """`first_seen_opens`: who is seen first has opened the flow; with TCP, the SYN tells."""
        # A flow takes an entry for each direction that was seen, and there are two halves.
        self._generation_size = max(1, max_flows // 2)
        self._max_held_b = max_held_b // 2
        self._held_b = 0
        self._first_seen_opens = first_seen_opens
        self._young: dict[bytes, Side] = {}
        self._old: dict[bytes, Side] = {}

    def __len__(self) -> int:
        """Directions remembered."""
        return len(self._young) + len(self._old)

    def side(self, key: bytes) -> Side:
        """The sender's side of the flow that a packet with this key belongs to."""
        side = self._young.get(key)
        return side if side is not None else self._bring(key)

    def known(self, key: bytes) -> Side | None:
        """The sender's side of a flow, if it has been seen; remembers nothing."""
        return self._young.get(key) or self._old.get(key)

    def start(self, key: bytes) -> Side:
        """Begin a new flow in place of any that has this key."""
        other = reverse(key)
        self._old.pop(key, None)
        self._old.pop(other, None)
        if (forgotten := self._young.pop(other, None)) is not None:
            self._held_b -= forgotten.noted_b
        if (forgotten := self._young.get(key)) is not None:
            self._held_b -= forgotten.noted_b
        return self._insert(key, Side(Flow(key)))

    def hold(self, starts: Starts, held_b: int) -> None:
        """Take note of how many bytes a side's starts hold that was asked for just before."""
        self._held_b += held_b - starts.noted_b
        starts.noted_b = held_b
        if self._held_b > self._max_held_b:
            self._age()

    def _bring(self, key: bytes) -> Side:
        """Find a side that is not among the young: old, known by its other side, or new."""
        side = self._old.pop(key, None)
        if side is None:
            other = reverse(key)
            known = self._young.get(other) or self._old.get(other)
            if known is not None:
                side = Side(known.flow)
                side.flow.two_way = True
            else:
                side = Side(Flow(key if self._first_seen_opens else None))
        return self._insert(key, side)

    def _insert(self, key: bytes, side: Side) -> Side:
        full = self._held_b + side.noted_b > self._max_held_b
        if full or len(self._young) >= self._generation_size:
            self._age()
        self._young[key] = side
        self._held_b += side.noted_b
        return side

    def _age(self) -> None:
        self._old = self._young
        self._young = {}
        self._held_b = 0
