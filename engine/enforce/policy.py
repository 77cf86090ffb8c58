"""Whom a detection bans, and whom never."""

from __future__ import annotations

import json
import logging
import subprocess
from ipaddress import IPv4Address, ip_address

from engine.inspect.judgement import Detection

_log = logging.getLogger(__name__)

_BROADCAST = IPv4Address("255.255.255.255")


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
        return (
            parsed.is_loopback
            or parsed.is_link_local
            or parsed.is_multicast
            or parsed.is_unspecified
            or parsed == _BROADCAST
        )


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
