"""Bans and allowed networks as the packet path sees them."""

from __future__ import annotations

import time
from collections.abc import Iterable

from engine.config import Network
from engine.enforce.networks import NetworkSet
from engine.enforce.target import has_port
from engine.inspect.packet import decode

# Addresses whose being allowed is remembered, so that few need the search.
_MAX_KNOWN = 65536

# Of an IPv4 header: no fragment, and a protocol with ports (TCP, UDP).
_WHOLE = frozenset({b"\0\0", b"\x40\0"})
_WITH_PORTS = frozenset({b"\x06", b"\x11"})


class BannedAddresses:
    """When the bans of addresses and endpoints end (CLOCK_MONOTONIC, ns), and who is allowed.

    A target is an address in network byte order (4 or 16 bytes), or with a port's 2 bytes behind
    it an endpoint. XDP has dropped what arrives on its interfaces already; this is for the other
    packets, and for endpoints.
    """

    def __init__(self) -> None:
        self.dropped: dict[bytes, tuple[int, int]] = {}
        """Packets and bytes dropped for each target; who reads it takes out what was read."""
        self._until_ns: dict[bytes, int] = {}
        self._endpoints = 0
        self._allowed = NetworkSet()
        self._allows_some = False
        self._is_allowed: dict[bytes, bool] = {}
        self._idle = True

    def __len__(self) -> int:
        return len(self._until_ns)

    def set(self, target: bytes, until_ns: int) -> None:
        """Ban a target, or lift its ban: `until_ns` is 0 then."""
        known = target in self._until_ns
        if until_ns:
            self._until_ns[target] = until_ns
            self._endpoints += not known and has_port(target)
        elif known:
            del self._until_ns[target]
            self._endpoints -= has_port(target)
        self._idle = not self._until_ns and not self._allows_some

    def replace(self, until_ns: Iterable[tuple[bytes, int]]) -> None:
        """Ban these targets, and no others."""
        self._until_ns = dict(until_ns)
        self._endpoints = sum(map(has_port, self._until_ns))
        self._idle = not self._until_ns and not self._allows_some

    def forget_expired(self) -> None:
        """Free the memory of bans that have ended; they are none already."""
        now = time.monotonic_ns()
        for target in [target for target, until in self._until_ns.items() if until <= now]:
            self.set(target, 0)

    def allow_only(self, networks: Iterable[Network]) -> None:
        """Let all traffic from and to these pass; replaces others."""
        self._allowed = NetworkSet(networks)
        self._allows_some = bool(self._allowed)
        self._is_allowed = {}
        self._idle = not self._until_ns and not self._allows_some

    def judge(self, datagram: bytes) -> bool | None:
        """True to drop an IP datagram, False to let it pass uninspected, None to inspect it.

        An allowed address may speak with everybody, with the banned as well.
        """
        if self._idle or not datagram:
            return None
        if datagram[0] >> 4 == 4:
            source, destination = datagram[12:16], datagram[16:20]
        else:
            source, destination = datagram[8:24], datagram[24:40]
        if self._allows_some:
            known = self._is_allowed
            if source not in known or destination not in known:
                self._find_out(source, destination)
            if known[source] or known[destination]:
                return False
        until = self._until_ns
        if source in until and self._drops(source, datagram):
            return True
        if destination in until and self._drops(destination, datagram):
            return True
        if not self._endpoints:
            return None
        if datagram[:1] == b"\x45" and datagram[6:8] in _WHOLE and datagram[9:10] in _WITH_PORTS:
            ends = source + datagram[20:22], destination + datagram[22:24]
        else:
            packet = decode(datagram)
            if packet is None:
                return None
            key, width = packet.key, len(packet.key) // 2 - 2
            ends = key[:width] + key[-4:-2], key[width:-4] + key[-2:]
        for end in ends:
            if end in until and self._drops(end, datagram):
                return True
        return None

    def _drops(self, target: bytes, datagram: bytes) -> bool:
        """Whether the ban of a target is in force, for this datagram of its."""
        if self._until_ns.get(target, 0) <= time.monotonic_ns():
            return False
        packets, dropped_b = self.dropped.get(target, (0, 0))
        self.dropped[target] = packets + 1, dropped_b + len(datagram)
        return True

    def _find_out(self, *addresses: bytes) -> None:
        """Remember whether addresses are allowed."""
        known = self._is_allowed
        if len(known) + len(addresses) > _MAX_KNOWN:
            known.clear()
        for address in addresses:
            known[address] = len(address) in (4, 16) and address in self._allowed
