"""The registry: every way a torrent may be found and fetched that the lab tries.

In each case only the mode under test is switched on, and only one address family exists, so
that a case tests what it names.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from engine.errors import InputError
from tools.lab.addresses import Family
from tools.lab.clients import CLIENTS
from tools.lab.clients.peer import Encryption, Transport
from tools.lab.torrent import Version

Discovery = Literal[
    "dial",
    "dialled",
    "told",
    "http-tracker",
    "udp-tracker",
    "dht",
    "pex",
    "lsd",
    "web-seed",
    "http-seed",
]


@dataclass(frozen=True, slots=True)
class Mode:
    """How peers may talk to each other."""

    transport: Transport
    encryption: Encryption


MODES: dict[str, Mode] = {
    "tcp": Mode("tcp", "off"),
    "utp": Mode("utp", "off"),
    "mse": Mode("tcp", "required"),
    "mse-plain": Mode("tcp", "handshake"),
    "utp-mse": Mode("utp", "required"),
    # What clients do when nobody tells them anything.
    "any": Mode("both", "allowed"),
}


@dataclass(frozen=True, slots=True)
class Case:
    """One torrent, seeded on the server's side, to be fetched from the client's side."""

    downloader: str
    mode: str
    """Of MODES, for both sides."""
    discovery: Discovery
    """dial: the downloader calls the seed; dialled: the seed calls it; told: something that
    the blocker cannot see names the seed; else the downloader has to ask."""
    family: Family
    magnet: bool = False
    version: Version = "1"
    """Of the metainfo (BEP 52)."""
    seed: str = "libtorrent"
    seed_port: int | None = None
    """Any, if None."""

    @property
    def name(self) -> str:
        """The downloader, the mode, the discovery, and what else is special."""
        parts = [self.downloader, self.mode, f"{self.discovery}{self.family}"]
        parts += ["magnet"] if self.magnet else []
        parts += {"1": [], "2": ["v2"], "hybrid": ["hybrid"]}[self.version]
        parts += [f"port{self.seed_port}"] if self.seed_port else []
        parts += [f"from-{self.seed}"] if self.seed != "libtorrent" else []
        return "-".join(parts)

    @property
    def transport(self) -> Transport:
        return MODES[self.mode].transport

    @property
    def encryption(self) -> Encryption:
        return MODES[self.mode].encryption

    @property
    def clients(self) -> set[str]:
        """The programs that take part."""
        # Nobody seeds but a web server; an acquaintance is always libtorrent.
        seedless = self.discovery in ("web-seed", "http-seed")
        return {self.downloader} if seedless else {self.downloader, self.seed}

    @property
    def on_demand(self) -> bool:
        """Whether `make setup` does not install all it needs, and the tests leave it out."""
        return any(CLIENTS[client].on_demand for client in self.clients)

    @property
    def first_request_s(self) -> float:
        """How long its clients may take from their start to the first request for data."""
        return max(CLIENTS[client].first_request_s for client in self.clients)

    @property
    def limit_s(self) -> float:
        """How long the transfer may take without the blocker."""
        return 45.0 + self.first_request_s


def _registry(cases: Iterable[Case]) -> dict[str, Case]:
    return {case.name: case for case in cases}


CASES: dict[str, Case] = _registry(
    [
        # Each mode, with a client that can be told to do that and nothing else.
        Case("libtorrent", "tcp", "dial", 4),
        Case("libtorrent", "tcp", "dial", 6),
        Case("libtorrent", "utp", "dial", 4),
        Case("libtorrent", "utp", "dial", 6),
        Case("libtorrent", "mse", "dial", 4),
        Case("libtorrent", "mse", "dial", 6),
        Case("libtorrent", "mse-plain", "dial", 4),
        Case("libtorrent", "utp-mse", "dial", 4),
        Case("libtorrent", "utp-mse", "dial", 6),
        Case("libtorrent", "any", "dial", 4),
        Case("libtorrent", "any", "dial", 6),
        # No port is exempt.
        Case("libtorrent", "tcp", "dial", 4, seed_port=443),
        Case("libtorrent", "utp", "dial", 4, seed_port=53),
        Case("libtorrent", "mse", "dial", 4, seed_port=22),
        # Metadata from peers (BEP 9), and the second version of torrents (BEP 52).
        Case("libtorrent", "tcp", "dial", 4, magnet=True),
        Case("libtorrent", "utp-mse", "dial", 4, magnet=True),
        Case("libtorrent", "tcp", "dial", 4, version="2"),
        Case("libtorrent", "utp", "dial", 6, version="hybrid"),
        Case("libtorrent", "mse", "dial", 4, magnet=True, version="2"),
        # Each way to find peers.
        Case("libtorrent", "tcp", "http-tracker", 6),
        Case("libtorrent", "tcp", "udp-tracker", 4),
        Case("libtorrent", "tcp", "udp-tracker", 6),
        Case("libtorrent", "tcp", "dht", 4),
        Case("libtorrent", "tcp", "dht", 6),
        Case("libtorrent", "mse", "pex", 4),
        Case("libtorrent", "utp", "pex", 6),
        Case("libtorrent", "tcp", "lsd", 4),
        Case("libtorrent", "tcp", "web-seed", 4),
        Case("libtorrent", "tcp", "http-seed", 4),
        # The other clients: calling in each mode they have, being called, and searching.
        Case("transmission", "tcp", "told", 4),
        Case("transmission", "utp", "told", 4),
        Case("transmission", "mse", "told", 4),
        Case("transmission", "utp-mse", "told", 6),
        Case("transmission", "any", "told", 4),
        Case("transmission", "mse", "dialled", 4),
        Case("transmission", "any", "http-tracker", 4, magnet=True),
        Case("transmission", "any", "udp-tracker", 4),
        Case("transmission", "any", "dht", 6),
        Case("transmission", "tcp", "pex", 4),
        Case("transmission", "tcp", "lsd", 4),
        Case("transmission", "tcp", "web-seed", 4),
        Case("aria2", "tcp", "told", 6),
        Case("aria2", "mse", "told", 4),
        Case("aria2", "mse-plain", "told", 4),
        Case("aria2", "any", "told", 4, magnet=True),
        Case("aria2", "tcp", "dialled", 4),
        Case("aria2", "any", "http-tracker", 4),
        Case("aria2", "any", "udp-tracker", 4),
        Case("aria2", "any", "dht", 4),
        Case("aria2", "tcp", "pex", 4),
        Case("aria2", "tcp", "lsd", 4),
        Case("qbittorrent", "tcp", "told", 4),
        Case("qbittorrent", "utp", "told", 6),
        Case("qbittorrent", "mse", "told", 4),
        Case("qbittorrent", "utp-mse", "told", 4),
        Case("qbittorrent", "any", "told", 4, version="hybrid"),
        Case("qbittorrent", "utp-mse", "dialled", 6),
        Case("qbittorrent", "any", "http-tracker", 4, version="2"),
        Case("qbittorrent", "any", "udp-tracker", 6),
        Case("qbittorrent", "any", "dht", 4, magnet=True),
        Case("qbittorrent", "tcp", "pex", 4),
        Case("qbittorrent", "tcp", "lsd", 4),
        Case("qbittorrent", "tcp", "web-seed", 4),
        Case("rtorrent", "tcp", "told", 4),
        Case("rtorrent", "mse", "told", 4),
        Case("rtorrent", "mse-plain", "told", 4),
        Case("rtorrent", "any", "told", 4, magnet=True),
        Case("rtorrent", "mse", "dialled", 4),
        Case("rtorrent", "any", "http-tracker", 4),
        Case("rtorrent", "any", "udp-tracker", 4),
        Case("rtorrent", "any", "dht", 4),
        Case("rtorrent", "tcp", "pex", 4),
        # Other seeds, which answer in their own way.
        Case("libtorrent", "mse", "dial", 4, seed="transmission"),
        Case("libtorrent", "mse", "dial", 4, seed="aria2"),
        Case("libtorrent", "mse", "dial", 4, seed="rtorrent"),
        Case("libtorrent", "utp-mse", "dial", 4, seed="qbittorrent"),
        Case("transmission", "mse", "told", 4, seed="aria2"),
        Case("transmission", "utp-mse", "told", 4, seed="transmission"),
        Case("aria2", "mse", "told", 4, seed="transmission"),
        Case("rtorrent", "mse", "told", 4, seed="transmission"),
        # Not part of the tests.
        Case("webtorrent", "tcp", "dial", 4),
        Case("webtorrent", "utp", "dial", 4),
        Case("webtorrent", "mse", "dial", 4),
        Case("webtorrent", "any", "told", 4),
        Case("webtorrent", "any", "http-tracker", 4),
        Case("webtorrent", "any", "udp-tracker", 4),
        Case("webtorrent", "any", "dht", 4, magnet=True),
        Case("webtorrent", "mse", "dialled", 4),
        Case("webtorrent", "tcp", "lsd", 4),
        Case("webtorrent", "tcp", "pex", 4),
        Case("libtorrent", "mse", "dial", 4, seed="webtorrent"),
        Case("webtorrent", "mse", "dial", 4, seed="webtorrent"),
    ]
)


TESTED_CASES = tuple(name for name, case in CASES.items() if not case.on_demand)
"""Those whose programs `make setup` installs."""

DEMO_CASES = (
    "libtorrent-tcp-dial4",
    "libtorrent-utp-dial6",
    "libtorrent-mse-dial4",
    "libtorrent-utp-mse-dial4",
    "libtorrent-any-dial6",
    "libtorrent-tcp-dial4-port443",
    "libtorrent-tcp-dial4-v2",
    "libtorrent-tcp-dht6",
    "libtorrent-tcp-udp-tracker6",
    "libtorrent-mse-pex4",
    "libtorrent-tcp-lsd4",
    "libtorrent-tcp-http-seed4",
    "transmission-any-told4",
    "transmission-mse-told4",
    "transmission-any-http-tracker4-magnet",
    "aria2-mse-told4",
    "aria2-any-http-tracker4",
    "aria2-tcp-pex4",
    "qbittorrent-utp-mse-told4",
    "qbittorrent-any-told4-hybrid",
    "qbittorrent-any-dht4-magnet",
    "rtorrent-mse-told4",
    "rtorrent-any-dht4",
)
"""At least one of each kind."""


def select_cases(names: Sequence[str]) -> list[Case]:
    """The cases of these names; raises InputError for an unknown one."""
    for name in names:
        if name not in CASES:
            near = get_close_matches(name, CASES, 3, cutoff=0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else "`list` shows them all"
            raise InputError(f"lab: no case {name}; {hint}")
    return [CASES[name] for name in names]
