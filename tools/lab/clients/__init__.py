"""The real clients, one a file; each can seed and download.

To add one: a module with `start(topology, where, settings, name) -> Peer`, and a line here.
"""

from __future__ import annotations

from collections.abc import Callable

from tools.lab.clients import aria2, libtorrent, transmission
from tools.lab.clients.peer import Peer, PeerSettings
from tools.lab.namespace import Namespace
from tools.lab.topology import Topology

CLIENTS: dict[str, Callable[[Topology, Namespace, PeerSettings, str], Peer]] = {
    "libtorrent": libtorrent.start,
    "transmission": transmission.start,
    "aria2": aria2.start,
}
"""How to start each client in a namespace, by name."""
