"""The two ends of a test's flow, as authors write them: `10.0.0.1:6881`, `"[::1]:443"`, `53`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

_WITH_PORT = re.compile(r"(?:\[([^\[\]]*)\]|([^:]*)):([0-9]{1,5})")
_FORMS = 'write `10.0.0.1:6881`, `"[2001:db8::1]:443"`, an address, or a port'


@dataclass(frozen=True, slots=True)
class End:
    """An address and a port."""

    address: IPv4Address | IPv6Address
    port: int


@dataclass(frozen=True, slots=True)
class WrittenEnd:
    """What an author says of one end; None is left to the defaults."""

    address: IPv4Address | IPv6Address | None = None
    port: int | None = None


# Addresses for documentation (RFC 5737, RFC 3849), ports that nothing is assigned to (RFC 6335).
_SOURCES = {4: ip_address("192.0.2.1"), 6: ip_address("2001:db8::1")}
_DESTINATIONS = {4: ip_address("192.0.2.2"), 6: ip_address("2001:db8::2")}
_SOURCE_PORT, _DESTINATION_PORT = 49152, 49153


def read_end(written: object) -> WrittenEnd:
    """One end from its YAML value. Raises ValueError that says what is wrong with it."""
    if isinstance(written, int) and not isinstance(written, bool):
        return WrittenEnd(None, _port(written))
    if not isinstance(written, str):
        raise ValueError(_FORMS)
    address, port = written, None
    if found := _WITH_PORT.fullmatch(written):
        address, port = found[1] or found[2] or "", _port(int(found[3]))
    try:
        return WrittenEnd(ip_address(address), port)
    except ValueError:
        raise ValueError(_FORMS) from None


def _port(number: int) -> int:
    if not 0 <= number <= 65535:
        raise ValueError("a port goes from 0 to 65535")
    return number


def both_ends(source: WrittenEnd, destination: WrittenEnd) -> tuple[End, End]:
    """Source and destination with what was not said.

    Raises ValueError where one is IPv4 and the other IPv6.
    """
    versions = {end.address.version for end in (source, destination) if end.address is not None}
    if len(versions) > 1:
        raise ValueError("one end is IPv4 and the other IPv6")
    version = versions.pop() if versions else 4
    return (
        _filled(source, _SOURCES[version], _SOURCE_PORT),
        _filled(destination, _DESTINATIONS[version], _DESTINATION_PORT),
    )


def _filled(end: WrittenEnd, address: IPv4Address | IPv6Address, port: int) -> End:
    return End(end.address or address, port if end.port is None else end.port)
