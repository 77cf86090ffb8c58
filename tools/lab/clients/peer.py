"""What a BitTorrent client is asked to do, in words that hold for every client."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tools.lab.addresses import Family
from tools.lab.program import LabError, Program
from tools.lab.torrent import Torrent

Transport = Literal["tcp", "utp", "both"]
Encryption = Literal["off", "allowed", "handshake", "required"]


def random_port() -> int:
    """A port that nothing else in a fresh namespace uses, with no meaning of its own."""
    return random.randint(20_000, 60_000)


@dataclass(frozen=True, slots=True)
class PeerSettings:
    """One peer of a swarm. All discovery is off unless switched on here."""

    torrent: Torrent
    folder: Path
    """Where the payload is (`seed`) or arrives."""
    family: Family
    address: str
    """Of that family; the client binds to it."""
    port: int
    seed: bool = False
    magnet: bool = False
    """Know only the magnet link, not the metainfo (BEP 9)."""
    transport: Transport = "tcp"
    encryption: Encryption = "off"
    """MSE/PE. off: never offered nor accepted; allowed: both ways; handshake: nothing else,
    but the payload in plaintext; required: nothing else, and the payload in RC4."""
    dht: bool = False
    dht_nodes: tuple[tuple[str, int], ...] = ()
    lsd: bool = False
    pex: bool = False
    dial: tuple[tuple[str, int], ...] = ()
    """Peers to call without any discovery, again and again."""
    upload_limit: int | None = None
    """Bytes in a second."""
    acquaintance: bool = False
    """A seed that lets nobody download from it: is there to be asked for peers (BEP 11)."""

    @property
    def source(self) -> str:
        """What a client is given: the magnet link, or the path of the metainfo."""
        return self.torrent.magnet if self.magnet else str(self.torrent.metainfo)

    def refuse(self, client: str, **unsupported: bool) -> None:
        """Raise LabError for the first of `unsupported` that holds."""
        for what, asked in unsupported.items():
            if asked:
                raise LabError(f"lab: {client} cannot do {what.replace('_', ' ')}")


@dataclass(frozen=True, slots=True)
class Peer:
    """A running client; `status` is a JSON file it keeps current, if it can."""

    program: Program
    settings: PeerSettings
    status_file: Path | None = None

    def status(self) -> dict[str, int]:
        """What the client says of itself; empty before its first word."""
        if self.status_file is None or not self.status_file.exists():
            return {}
        status: dict[str, int] = json.loads(self.status_file.read_text())
        return status

    def bytes_present(self) -> int:
        """Bytes of the torrent on this peer's disk."""
        return self.settings.torrent.bytes_present(self.settings.folder)
