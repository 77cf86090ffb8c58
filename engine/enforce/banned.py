"""Banned addresses as the packet path asks for them: is a packet from one, or for one."""

from __future__ import annotations

import time


class BannedAddresses:
    """Addresses in network byte order, and when their bans end (CLOCK_MONOTONIC, ns).

    XDP has dropped what arrives on its interfaces already; this is for the other packets.
    """

    def __init__(self) -> None:
        self._until_ns: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._until_ns)

    def set(self, address: bytes, until_ns: int) -> None:
        """Ban an address, or lift its ban: `until_ns` is 0 then."""
        if until_ns:
            self._until_ns[address] = until_ns
        else:
            self._until_ns.pop(address, None)

    def forget_expired(self) -> None:
        """Free the memory of bans that have ended; they are none already."""
        now = time.monotonic_ns()
        expired = [address for address, until in self._until_ns.items() if until <= now]
        for address in expired:
            del self._until_ns[address]

    def covers(self, datagram: bytes) -> bool:
        """Whether an IP datagram comes from or goes to a banned address."""
        until = self._until_ns
        if not until or not datagram:
            return False
        if datagram[0] >> 4 == 4:
            latest = max(until.get(datagram[12:16], 0), until.get(datagram[16:20], 0))
        else:
            latest = max(until.get(datagram[8:24], 0), until.get(datagram[24:40], 0))
        return latest > 0 and latest > time.monotonic_ns()
