"""The bans in force and those of the past: who, why, until when; handed to all that drops."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from engine.enforce.bpf import BanEntry
from engine.enforce.networks import NetworkSet
from engine.enforce.program import DEFAULT_CAPACITY
from engine.enforce.state import BanRecord, BanState
from engine.enforce.target import address_of, has_port, target_text

MANUAL = "manual"
# Of bans that have ended, to know repeaters by.
MAX_REMEMBERED = 262_144
# Ended bans that one clean-up takes out, in less than a second; nobody heeds them either way.
MAX_EXPIRED_AT_ONCE = 50_000

_NS = 1_000_000_000


@dataclass(slots=True)
class Ban:
    """One banned target. The counts grow, the rest stays.

    `reason` is a signature's id or `manual`. `first_seen` and `last_seen` are Unix times, in
    seconds, of the first and the last offence that are remembered of the target; `offences` is
    how many times it was banned for a detection. `expires_ns` is on CLOCK_MONOTONIC, the clock
    that the XDP program compares with. `packets` and `bytes` were dropped by workers, and before
    a restart; the others by the driver, when its counts were read last.
    """

    target: bytes
    reason: str
    first_seen: float
    last_seen: float
    expires_ns: int
    offences: int
    packets: int = 0
    bytes: int = 0
    driver_packets: int = 0
    driver_bytes: int = 0

    @property
    def remaining_s(self) -> int:
        """Whole seconds until it ends."""
        return max(0, (self.expires_ns - time.monotonic_ns()) // _NS)

    def as_json(self) -> dict[str, object]:
        """The ban for people and scripts."""
        return {
            "address": target_text(self.target),
            "reason": self.reason,
            "first_seen": round(self.first_seen, 3),
            "last_seen": round(self.last_seen, 3),
            "offences": self.offences,
            "remaining_s": self.remaining_s,
            "packets": self.packets + self.driver_packets,
            "bytes": self.bytes + self.driver_bytes,
        }

    def record(self) -> BanRecord:
        """The ban with an end in Unix time, which outlives a reboot."""
        expires = time.time() + (self.expires_ns - time.monotonic_ns()) / _NS
        return BanRecord(
            self.target,
            self.reason,
            self.first_seen,
            self.last_seen,
            expires,
            self.offences,
            self.packets + self.driver_packets,
            self.bytes + self.driver_bytes,
        )


@dataclass(frozen=True, slots=True)
class Growth:
    """How bans grow: each is `factor` times as long as the one before, up to `max_s`.

    `memory_s` after a ban's end its target counts as new again.
    """

    factor: int = 1
    max_s: int = 1
    memory_s: int = 0

    def duration_s(self, base_s: int, offences: int) -> int:
        """How long a ban lasts; `offences` counts this one."""
        duration_s = base_s
        for _ in range(offences - 1):
            duration_s *= self.factor
            if self.factor == 1 or duration_s >= self.max_s:
                break
        return max(base_s, min(duration_s, self.max_s))


class Enforcer(Protocol):
    """What drops the packets of banned targets."""

    def ban(self, target: bytes, expires_ns: int, /) -> object: ...
    def unban(self, target: bytes, /) -> object: ...


class Driver(Enforcer, Protocol):
    """The same before packets reach the queue, for whole addresses; it counts what it drops."""

    def banned(self) -> Iterable[BanEntry]: ...


class BanList:
    """Bans by target, as many as the XDP maps hold; the oldest gives way to a new one.

    Used from one thread only.
    """

    def __init__(
        self,
        queue: Enforcer,
        *,
        state: BanState | None = None,
        growth: Growth | None = None,
    ) -> None:
        """`queue` enforces all bans; `state` keeps them."""
        self.growth = growth or Growth()
        self._driver: Driver | None = None
        self._queue = queue
        self._state = state or BanState()
        # Of a plain dict the oldest is found ever more slowly, the more have been taken out.
        self._bans: OrderedDict[bytes, Ban] = OrderedDict()
        self._past: OrderedDict[bytes, Ban] = OrderedDict()
        self._counted: set[bytes] = set()

    def use_driver(self, driver: Driver | None) -> None:
        """Have the bans of whole addresses enforced by the driver as well, or no longer."""
        self._driver = driver
        if driver is not None:
            for ban in self:
                if not has_port(ban.target):
                    driver.ban(ban.target, ban.expires_ns)

    def __len__(self) -> int:
        return len(self._bans)

    def __contains__(self, target: bytes) -> bool:
        return target in self._bans

    def __iter__(self) -> Iterator[Ban]:
        """The bans in force, oldest first."""
        now = time.monotonic_ns()
        return (ban for ban in list(self._bans.values()) if ban.expires_ns > now)

    @property
    def remembered(self) -> int:
        """Bans that have ended and are not forgotten."""
        return len(self._past)

    def until_ns(self) -> Iterator[tuple[bytes, int]]:
        """The banned targets, and when their bans end."""
        return ((ban.target, ban.expires_ns) for ban in self)

    def offend(self, target: bytes, reason: str, base_s: int) -> Ban:
        """Ban a target for a detection: the longer, the more often it was banned.

        While it is banned already, that ban is prolonged at most.
        """
        now, now_ns = time.time(), time.monotonic_ns()
        current, past = self._take(target)
        known = current or past
        # Packets that were under way when a ban began make no repeater.
        offences = 1 if known is None else max(1, known.offences + (current is None))
        duration_s = self.growth.duration_s(base_s, offences)
        ban = Ban(target, reason, now, now, now_ns + duration_s * _NS, offences)
        if known is not None:
            ban.first_seen = known.first_seen
        if current is not None:
            if current.expires_ns > ban.expires_ns:
                ban.expires_ns, ban.reason = current.expires_ns, current.reason
            ban.packets, ban.bytes = current.packets, current.bytes
            ban.driver_packets, ban.driver_bytes = current.driver_packets, current.driver_bytes
        return self._put(ban)

    def ban(self, target: bytes, duration_s: int, reason: str = MANUAL) -> Ban:
        """Ban a target for just so long: by hand."""
        now = time.time()
        current, past = self._take(target)
        known = current or past
        ban = Ban(target, reason, now, now, time.monotonic_ns() + duration_s * _NS, 0)
        if known is not None:
            ban.first_seen, ban.offences = known.first_seen, known.offences
        return self._put(ban)

    def unban(self, target: bytes) -> Ban | None:
        """Lift a ban, forget it and give it; None if there was none in force."""
        ban = self._bans.pop(target, None)
        if ban is None and self._past.pop(target, None) is None:
            return None
        self._state.forget(target)
        if ban is None:
            return None
        self._lift(target)
        return ban if ban.expires_ns > time.monotonic_ns() else None

    def unban_in(self, networks: NetworkSet) -> list[Ban]:
        """Lift the bans of all targets in these networks, and give them."""
        found = [target for target in self._bans if address_of(target) in networks]
        return [ban for ban in map(self.unban, found) if ban is not None]

    def expire(self) -> list[Ban]:
        """End the bans that have run out, and give them; forget old ones."""
        now = time.monotonic_ns()
        ended = (ban for ban in self._bans.values() if ban.expires_ns <= now)
        expired = list(islice(ended, MAX_EXPIRED_AT_ONCE))
        for ban in expired:
            del self._bans[ban.target]
            self._lift_in_driver(ban.target)  # workers forget by themselves
            self._remember(ban)
        oldest_ns = now - self.growth.memory_s * _NS
        for ban in [ban for ban in self._past.values() if ban.expires_ns <= oldest_ns]:
            self._forget(ban.target)
        return expired

    def count(self, dropped: Mapping[bytes, tuple[int, int]]) -> None:
        """Add packets and bytes that were dropped for bans."""
        for target, (packets, dropped_b) in dropped.items():
            ban = self._bans.get(target)
            if ban is not None:
                ban.packets += packets
                ban.bytes += dropped_b
                self._counted.add(target)

    def read_driver(self) -> None:
        """Bring the driver's counts up to date."""
        if self._driver is None:
            return
        for entry in self._driver.banned():
            ban = self._bans.get(entry.address)
            if ban is not None and ban.driver_packets != entry.packets:
                ban.driver_packets, ban.driver_bytes = entry.packets, entry.bytes
                self._counted.add(entry.address)

    def keep_counts(self) -> None:
        """Have the counts kept that have changed: now and then, since they always do."""
        self.read_driver()
        for target in self._counted:
            ban = self._bans.get(target)
            if ban is not None:
                self._state.keep(ban.record())
        self._counted.clear()

    def restore(self, records: Iterable[BanRecord]) -> int:
        """Take in what was kept by an earlier run; gives how many are in force."""
        now, now_ns = time.time(), time.monotonic_ns()
        for kept in sorted(records, key=lambda kept: kept.last_seen):
            # A clock that runs behind, as after a boot without its battery, makes no ban longer.
            remaining_s = min(kept.expires - now, kept.expires - kept.last_seen)
            ban = Ban(
                kept.target,
                kept.reason,
                kept.first_seen,
                kept.last_seen,
                now_ns + int(remaining_s * _NS),
                kept.offences,
                kept.packets,
                kept.bytes,
            )
            if remaining_s > 0:
                self._put(ban, keep=False)
            else:
                self._remember(ban)
        return len(self)

    def keep_all(self) -> None:
        """Have everything kept anew, where what was kept before is lost."""
        for ban in (*self._past.values(), *self._bans.values()):
            self._state.keep(ban.record())

    def _take(self, target: bytes) -> tuple[Ban | None, Ban | None]:
        """Take out the ban of a target that is in force, or that is over and remembered."""
        now = time.monotonic_ns()
        ban = self._bans.pop(target, None) or self._past.pop(target, None)
        if ban is None or ban.expires_ns + self.growth.memory_s * _NS <= now:
            return None, None
        return (ban, None) if ban.expires_ns > now else (None, ban)

    def _put(self, ban: Ban, *, keep: bool = True) -> Ban:
        if len(self._bans) >= DEFAULT_CAPACITY:
            self.unban(next(iter(self._bans)))
        self._bans[ban.target] = ban
        self._queue.ban(ban.target, ban.expires_ns)
        if self._driver is not None and not has_port(ban.target):
            self._driver.ban(ban.target, ban.expires_ns)
        if keep:
            self._state.keep(ban.record())
        return ban

    def _lift(self, target: bytes) -> None:
        self._queue.unban(target)
        self._lift_in_driver(target)

    def _lift_in_driver(self, target: bytes) -> None:
        if self._driver is not None and not has_port(target):
            self._driver.unban(target)

    def _remember(self, ban: Ban) -> None:
        self._past[ban.target] = ban
        if len(self._past) > MAX_REMEMBERED:
            self._forget(next(iter(self._past)))

    def _forget(self, target: bytes) -> None:
        del self._past[target]
        self._state.forget(target)
