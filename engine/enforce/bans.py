"""The bans in force: who, why, until when; handed to all that drops packets."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Protocol

from engine.enforce.bpf import BanEntry
from engine.enforce.program import DEFAULT_CAPACITY

_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Ban:
    """One banned address, in network byte order.

    `reason` is a signature's id or `manual`; `since` is Unix time in seconds; `expires_ns`
    is on CLOCK_MONOTONIC, the clock that the XDP program compares with.
    """

    address: bytes
    reason: str
    since: float
    expires_ns: int

    def as_json(self, entry: BanEntry | None = None) -> dict[str, object]:
        """The ban for people and scripts, with what it has dropped in the driver."""
        return {
            "address": str(ip_address(self.address)),
            "reason": self.reason,
            "since": round(self.since, 3),
            "remaining_s": max(0, (self.expires_ns - time.monotonic_ns()) // _NS),
            "driver_packets": None if entry is None else entry.packets,
            "driver_bytes": None if entry is None else entry.bytes,
        }


class Enforcer(Protocol):
    """What drops the packets of banned addresses."""

    def ban(self, address: bytes, expires_ns: int) -> object: ...
    def unban(self, address: bytes) -> object: ...


class BanList:
    """Bans by address, as many as the XDP maps hold; the oldest gives way to a new one.

    Used from one thread only.
    """

    def __init__(self, *enforcers: Enforcer) -> None:
        self._enforcers = enforcers
        # Of a plain dict the oldest is found ever more slowly, the more have been taken out.
        self._bans: OrderedDict[bytes, Ban] = OrderedDict()

    def __len__(self) -> int:
        return len(self._bans)

    def __iter__(self) -> Iterator[Ban]:
        """The bans in force, oldest first."""
        now = time.monotonic_ns()
        return (ban for ban in list(self._bans.values()) if ban.expires_ns > now)

    def ban(self, address: bytes, reason: str, duration_s: int) -> Ban:
        """Ban an address, or renew its ban."""
        return self.ban_until(address, reason, time.monotonic_ns() + duration_s * _NS)

    def ban_until(self, address: bytes, reason: str, expires_ns: int) -> Ban:
        """The same, or take in a ban that the driver has set by itself."""
        self._bans.pop(address, None)
        if len(self._bans) >= DEFAULT_CAPACITY:
            self.unban(next(iter(self._bans)))
        ban = self._bans[address] = Ban(address, reason, time.time(), expires_ns)
        for enforcer in self._enforcers:
            enforcer.ban(address, ban.expires_ns)
        return ban

    def unban(self, address: bytes) -> Ban | None:
        """Lift a ban and give it; None if there was none."""
        ban = self._bans.pop(address, None)
        if ban is not None:
            for enforcer in self._enforcers:
                enforcer.unban(address)
        return ban

    def until_ns(self) -> Iterator[tuple[bytes, int]]:
        """The addresses banned, and when their bans end."""
        return ((ban.address, ban.expires_ns) for ban in self)

    def expire(self) -> list[Ban]:
        """Forget the bans that have run out, and give them."""
        now = time.monotonic_ns()
        expired = [ban for ban in self._bans.values() if ban.expires_ns <= now]
        for ban in expired:
            self.unban(ban.address)
        return expired
