"""Sets of networks that are asked for single addresses."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, collapse_addresses
from typing import TypeVar

from engine.config import Network

# What names no single remote host: loopback, link-local, multicast, broadcast, unspecified.
NO_HOST: tuple[Network, ...] = (
    *map(
        IPv4Network,
        ("0.0.0.0/32", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "255.255.255.255/32"),
    ),
    *map(IPv6Network, ("::/128", "::1/128", "fe80::/10", "ff00::/8")),
)

_Version = TypeVar("_Version", IPv4Network, IPv6Network)


class NetworkSet:
    """Networks of both IP versions; asking takes the logarithm of their number."""

    def __init__(self, networks: Iterable[Network] = ()) -> None:
        networks = list(networks)
        # As bytes, addresses of one version compare as they do as numbers.
        self._ranges = {
            4: _ranges(net for net in networks if isinstance(net, IPv4Network)),
            16: _ranges(net for net in networks if isinstance(net, IPv6Network)),
        }

    def __bool__(self) -> bool:
        return any(firsts for firsts, _ in self._ranges.values())

    def __contains__(self, address: bytes) -> bool:
        """Whether one of the networks has an address (4 or 16 bytes in network order)."""
        firsts, lasts = self._ranges[len(address)]
        index = bisect_right(firsts, address)
        return index > 0 and address <= lasts[index - 1]


def _ranges(networks: Iterable[_Version]) -> tuple[list[bytes], list[bytes]]:
    apart = list(collapse_addresses(networks))  # in order, none within another
    firsts = [network.network_address.packed for network in apart]
    return firsts, [network.broadcast_address.packed for network in apart]
