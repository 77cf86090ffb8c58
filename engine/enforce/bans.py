"""The bans in force: who, why, until when; mirrored into the XDP maps."""

from __future__ import annotations

import time
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

    def as_json(self) -> dict[str, object]:
        """The ban for people and scripts."""
        return {
            "address": str(ip_address(self.address)),
            "reason": self.reason,
            "since": round(self.since, 3),
            "remaining_s": max(0, (self.expires_ns - time.monotonic_ns()) // _NS),
        }


class FastPath(Protocol):
    """What drops banned addresses before they reach the queue."""

    def ban(self, address: bytes, expires_ns: int) -> None: ...
    def unban(self, address: bytes) -> bool: ...
    def banned(self) -> Iterator[BanEntry]: ...


class BanList:
    """Bans by address, as many as the XDP maps hold; the oldest gives way to a new one.

    Used from one thread only.
    """

    def __init__(self, fast_path: FastPath | None = None) -> None:
        self._fast_path = fast_path
        self._bans: dict[bytes, Ban] = {}

    def __len__(self) -> int:
        return len(self._bans)

    def __iter__(self) -> Iterator[Ban]:
        """The bans in force, oldest first."""
        now = time.monotonic_ns()
        return (ban for ban in list(self._bans.values()) if ban.expires_ns > now)

    def ban(self, address: bytes, reason: str, duration_s: int) -> Ban:
        """Ban an address, or renew its ban."""
        ban = self.adopt(address, reason, time.monotonic_ns() + duration_s * _NS)
        if self._fast_path is not None:
            self._fast_path.ban(address, ban.expires_ns)
        return ban

    def adopt(self, address: bytes, reason: str, expires_ns: int) -> Ban:
        """Take in a ban that the fast path has set by itself."""
        self._bans.pop(address, None)
        if len(self._bans) >= DEFAULT_CAPACITY:
            self.unban(next(iter(self._bans)))
        ban = self._bans[address] = Ban(address, reason, time.time(), expires_ns)
        return ban

    def unban(self, address: bytes) -> bool:
        """Lift a ban; false if there was none."""
        if self._bans.pop(address, None) is None:
            return False
        if self._fast_path is not None:
            self._fast_path.unban(address)
        return True

    def expire(self) -> int:
        """Forget the bans that have run out; gives how many."""
        now = time.monotonic_ns()
        expired = [ban.address for ban in self._bans.values() if ban.expires_ns <= now]
        for address in expired:
            self.unban(address)
        return len(expired)

    def as_json(self) -> list[dict[str, object]]:
        """The bans in force, and what the fast path has dropped for each: null without one."""
        fast = self._fast_path
        hits = {entry.address: entry for entry in fast.banned()} if fast is not None else {}
        return [
            {
                **ban.as_json(),
                "driver_packets": hits[ban.address].packets if ban.address in hits else None,
                "driver_bytes": hits[ban.address].bytes if ban.address in hits else None,
            }
            for ban in self
        ]

    def covers(self, datagram: bytes) -> bool:
        """Whether an IP datagram comes from or goes to a banned address.

        XDP has dropped those that arrive on its interfaces already; this is for the others.
        """
        bans = self._bans
        if not bans or not datagram:
            return False
        if datagram[0] >> 4 == 4:
            found = bans.get(datagram[12:16]), bans.get(datagram[16:20])
        else:
            found = bans.get(datagram[8:24]), bans.get(datagram[24:40])
        if found == (None, None):
            return False
        now = time.monotonic_ns()
        return any(ban is not None and ban.expires_ns > now for ban in found)
