"""Which addresses the hosts of a line have: the same in every topology, others on each line."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Literal

Family = Literal[4, 6]

# Networks of 256 each: two for every line, and behind every server as many as it likes.
_NETWORK: dict[Family, str] = {4: "10.77.{}.", 6: "2001:db8:77:{:x}::"}
_DISTANT: dict[Family, tuple[str, str]] = {
    4: ("10.{}.0.0/16", "10.{}.{}.1"),
    6: ("2001:db8:{}::/48", "2001:db8:{}:{:x}::1"),
}
_FIRST_DISTANT = 78
_PREFIX_BITS: dict[Family, int] = {4: 24, 6: 64}


def endpoint(address: str, port: int) -> str:
    """`ip:port`, with an IPv6 address in brackets (RFC 3986)."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def with_prefix(address: str, family: Family) -> str:
    """`address/bits`, as all networks here are cut."""
    return f"{address}/{_PREFIX_BITS[family]}"


@dataclass(frozen=True, slots=True)
class LineAddresses:
    """The addresses of the line with a number, from 1 on."""

    number: int

    def client(self, family: Family) -> str:
        return f"{self._network(family, 0)}2"

    def server(self, family: Family) -> str:
        return f"{self._network(family, 1)}2"

    def gateways(self, family: Family) -> tuple[str, str]:
        """The router's, inner and outer."""
        return f"{self._network(family, 0)}1", f"{self._network(family, 1)}1"

    def distant_network(self, family: Family) -> str:
        """Of all addresses that the server may have besides its own."""
        return _DISTANT[family][0].format(_FIRST_DISTANT + self.number - 1)

    def distant(self, family: Family, index: int) -> str:
        """One of these, each in a network of its own."""
        return _DISTANT[family][1].format(_FIRST_DISTANT + self.number - 1, index)

    def contain(self, address: str) -> bool:
        """Whether an address is one of the line's hosts'."""
        parsed = ip_address(address)
        family: Family = 4 if parsed.version == 4 else 6
        return address in (self.client(family), self.server(family)) or parsed in ip_network(
            self.distant_network(family)
        )

    def _network(self, family: Family, side: Literal[0, 1]) -> str:
        return _NETWORK[family].format(2 * self.number - 1 + side)
