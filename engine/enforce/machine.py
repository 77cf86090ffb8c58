"""What this machine's own connection hangs on: its addresses, gateways and resolvers."""

from __future__ import annotations

import json
import logging
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from engine.errors import UnavailableError

_log = logging.getLogger(__name__)

# The second has the servers behind systemd-resolved's 127.0.0.53 (systemd-resolved(8)).
_RESOLVER_FILES = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))


@dataclass(frozen=True, slots=True)
class Machine:
    """Addresses in network byte order. Without these a gateway would cut itself off."""

    own: frozenset[bytes] = frozenset()
    gateways: frozenset[bytes] = frozenset()
    resolvers: frozenset[bytes] = frozenset()

    def role(self, address: bytes) -> str:
        """What an address is to this machine, in words; nothing if it is nothing."""
        if address in self.own:
            return "this machine's own"
        if address in self.gateways:
            return "this machine's gateway"
        return "this machine's resolver" if address in self.resolvers else ""

    @property
    def addresses(self) -> frozenset[bytes]:
        """All of them."""
        return self.own | self.gateways | self.resolvers


def read_machine() -> Machine:
    """Read this network namespace; what cannot be read is logged, and empty."""
    return Machine(_own(), _gateways(), _resolvers())


def default_routes() -> list[dict[str, Any]]:
    """The default routes of both IP versions and all tables, as `ip -json route` shows them.

    Raises UnavailableError.
    """
    return [
        route
        for version in ("-4", "-6")
        for route in _shown_by_ip(version, "route", "show", "table", "all", "default")
        if route.get("type", "unicast") == "unicast"  # not: unreachable, prohibit ...
    ]


def _own() -> frozenset[bytes]:
    try:
        interfaces = _shown_by_ip("address", "show")
    except UnavailableError as error:
        _log.warning("%s", error)
        return frozenset()
    return frozenset(
        ip_address(entry["local"]).packed
        for interface in interfaces
        for entry in interface.get("addr_info", ())
        if "local" in entry
    )


def _gateways() -> frozenset[bytes]:
    try:
        return frozenset(gateway for route in default_routes() for gateway in _next_hops(route))
    except UnavailableError as error:
        _log.warning("%s", error)
        return frozenset()


def _next_hops(route: dict[str, Any]) -> Iterator[bytes]:
    # One of several is in `nexthops`; an IPv4 route by way of an IPv6 neighbour has `via`.
    for hop in (route, *route.get("nexthops", ())):
        for address in (hop.get("gateway"), hop.get("via", {}).get("host")):
            if address is not None:
                yield ip_address(address).packed


def _resolvers() -> frozenset[bytes]:
    return frozenset(address for file in _RESOLVER_FILES for address in _nameservers(file))


def _nameservers(file: Path) -> Iterator[bytes]:
    """The name servers of a resolv.conf(5)."""
    try:
        lines = file.read_text("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return
    except OSError as error:
        _log.warning("cannot read the resolvers: %s", error)
        return
    for line in lines:
        words = line.split()
        if words[:1] == ["nameserver"] and len(words) > 1:
            try:
                yield ip_address(words[1].partition("%")[0]).packed
            except ValueError:
                _log.warning("%s: %r is no address", file, words[1])


def _shown_by_ip(*arguments: str) -> list[dict[str, Any]]:
    try:
        answer = subprocess.run(
            ["ip", "-json", *arguments], capture_output=True, check=True, timeout=10
        )
        shown: list[dict[str, Any]] = json.loads(answer.stdout or b"[]")
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise UnavailableError(f"cannot read addresses and routes: {error}") from error
    return shown
