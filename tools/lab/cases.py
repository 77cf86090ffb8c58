"""The registry: every way a torrent may be found and fetched that the lab tries.

In each case only the mode under test is switched on, and only one address family exists, so
that a case tests what it names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from engine.errors import InputError
from tools.lab.clients.peer import Encryption, Transport
from tools.lab.topology import Family

Discovery = Literal["dial", "dialled", "http-tracker", "udp-tracker", "dht"]


@dataclass(frozen=True, slots=True)
class Case:
    """One torrent, seeded on the server's side, to be fetched from the client's side."""

    name: str
    discovery: Discovery
    """dial: the downloader calls the seed; dialled: the seed calls it; else it has to ask."""
    family: Family
    transport: Transport = "tcp"
    downloader: str = "libtorrent"
    seed: str = "libtorrent"
    encryption: Encryption = "off"

    @property
    def first_request_s(self) -> float:
        """How long its clients may take from their start to the first request for data."""
        # Transmission looks every 10 s whom to ask, and first about 13 s after its start.
        return 13.0 if "transmission" in (self.downloader, self.seed) else 0.0

    @property
    def limit_s(self) -> float:
        """How long the transfer may take without the blocker."""
        return 45.0 + self.first_request_s


CASES: dict[str, Case] = {
    case.name: case
    for case in (
        Case("tcp4", "dial", 4),
        Case("tcp6", "dial", 6),
        Case("tcp4-transmission", "dialled", 4, downloader="transmission"),
        Case("tcp6-aria2", "dialled", 6, downloader="aria2"),
        Case("utp4", "dial", 4, "utp"),
        Case("utp6", "dial", 6, "utp"),
        Case("http-tracker4", "http-tracker", 4, downloader="aria2"),
        Case("http-tracker4-transmission", "http-tracker", 4, downloader="transmission"),
        Case("http-tracker6", "http-tracker", 6),
        Case("udp-tracker4", "udp-tracker", 4),
        Case("udp-tracker6", "udp-tracker", 6),
        Case("dht4", "dht", 4),
        Case("dht6", "dht", 6),
    )
}


def select_cases(names: str | None) -> list[Case]:
    """The cases of a comma-separated list, or all; raises InputError for an unknown name."""
    if not names:
        return list(CASES.values())
    unknown = [name for name in names.split(",") if name not in CASES]
    if unknown:
        raise InputError(f"lab: no case {', '.join(unknown)}; there are {', '.join(CASES)}")
    return [CASES[name] for name in names.split(",")]
