"""The real clients, one a file; each can seed and download.

To add one: a module with `start(line, where, settings, name) -> Peer`, and a line here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tools.lab.clients import aria2, libtorrent, qbittorrent, rtorrent, transmission, webtorrent
from tools.lab.clients.peer import Peer, PeerSettings
from tools.lab.namespace import Namespace
from tools.lab.topology import Line


@dataclass(frozen=True, slots=True)
class Client:
    """How to start a client in a namespace, and how long it takes to get going."""

    start: Callable[[Line, Namespace, PeerSettings, str], Peer]
    first_request_s: float = 0.0
    """From its start to its first request for data, at most."""
    on_demand: bool = False
    """Not installed by `make setup`: its cases are tried when somebody asks for them."""
    asks_built_in_routers: bool = False
    """It looks for the DHT under the names that it has built in, and cannot be told others."""


CLIENTS: dict[str, Client] = {
    "libtorrent": Client(libtorrent.start),
    # It looks every 10 s whom to ask, and first about 13 s after its start.
    "transmission": Client(transmission.start, first_request_s=13.0),
    "aria2": Client(aria2.start),
    "qbittorrent": Client(qbittorrent.start, first_request_s=3.0, asks_built_in_routers=True),
    "rtorrent": Client(rtorrent.start, first_request_s=3.0),
    "webtorrent": Client(webtorrent.start, first_request_s=3.0, on_demand=True),
}
