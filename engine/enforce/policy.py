"""Whom a detection bans, and whom never."""

from __future__ import annotations

import json
import logging
import subprocess
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from engine.inspect.inspector import Detection

_log = logging.getLogger(__name__)

# What names no single remote host: loopback, link-local, multicast, broadcast, unspecified.
_NO_HOST = tuple(
    map(
        ip_network,
        (
            *("0.0.0.0/32", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "255.255.255.255/32"),
            *("::/128", "::1/128", "fe80::/10", "ff00::/8"),
        ),
    )
)


class Policy:
    """Bans the source of a packet that blocked, unless that would hurt the machine itself.

    Never banned: the machine's own addresses, and addresses that name no single remote host
    (loopback, link-local, multicast, broadcast, unspecified). Nor does a packet inside a tunnel
    ban anybody: its own addresses are not on the wire, where XDP looks for them, and may be
    somebody else's there; and the tunnel's end carries others' packets as well.
    """

    def __init__(self) -> None:
        self._own: frozenset[bytes] = frozenset()
        self.refresh()

    def refresh(self) -> None:
        """Read the machine's addresses again: interfaces come and go."""
        self._own = local_addresses()

    def banned_by(self, detection: Detection) -> tuple[bytes, ...]:
        """The addresses that a detection bans, in network byte order."""
        if detection.action != "block" or detection.tunnelled:
            return ()
        source = detection.source.address
        return () if self.is_exempt(source) else (source,)

    def is_exempt(self, address: bytes) -> bool:
        """Whether an address must never be banned."""
        if address in self._own:
            return True
        parsed = ip_address(address)
        return any(parsed in network for network in _NO_HOST)

    def exempt_networks(self) -> list[IPv4Network | IPv6Network]:
        """The same as networks, for the driver."""
        return [*_NO_HOST, *map(ip_network, self._own)]


def local_addresses() -> frozenset[bytes]:
    """The addresses of all interfaces, in network byte order."""
    try:
        answer = subprocess.run(
            ["ip", "-json", "address", "show"], capture_output=True, check=True, timeout=10
        )
        interfaces = json.loads(answer.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        _log.warning("cannot read the machine's own addresses: %s", error)
        return frozenset()
    return frozenset(
        ip_address(entry["local"]).packed
        for interface in interfaces
        for entry in interface.get("addr_info", ())
        if "local" in entry
    )
