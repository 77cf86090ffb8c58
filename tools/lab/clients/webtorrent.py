"""WebTorrent in Node.js, which Debian does not have: every protocol written anew in JavaScript.

    npm install --ignore-scripts webtorrent@1

in some folder; NODE_PATH names the `node_modules` there. It dials uTP first where that is on, and
TCP after that; with encryption it dials MSE first, and plaintext after that.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from engine.errors import UnavailableError
from tools.lab.addresses import endpoint
from tools.lab.clients.peer import Peer, PeerSettings
from tools.lab.namespace import Namespace
from tools.lab.topology import Line

_DRIVER = Path(__file__).parent.parent / "drivers" / "webtorrent_peer.js"


def start(line: Line, where: Namespace, settings: PeerSettings, name: str) -> Peer:
    """Start it; raises LabError for what it cannot be told, UnavailableError if it is not there."""
    settings.refuse("WebTorrent", plaintext_after_MSE=settings.encryption == "handshake")
    if not any(Path(each, "webtorrent").exists() for each in _node_path()):
        raise UnavailableError(
            "lab: WebTorrent is not installed: npm install --ignore-scripts webtorrent@1, and "
            "name its node_modules in NODE_PATH"
        )
    order = {
        "settings": {
            "torrentPort": settings.port,
            "tracker": bool(settings.torrent.trackers),
            "dht": {"bootstrap": [endpoint(*node) for node in settings.dht_nodes]}
            if settings.dht
            else False,
            "lsd": settings.lsd,
            "utPex": settings.pex,
            "utp": settings.transport != "tcp",
            "secure": settings.encryption != "off",
            "natUpnp": False,
            "natPmp": False,
        },
        "source": settings.source,
        "folder": str(settings.folder),
        "dial": [endpoint(*peer) for peer in settings.dial],
    }
    order_file = line.folder / f"{name}.order.json"
    order_file.write_text(json.dumps(order))
    return Peer(line.spawn(where, ["node", str(_DRIVER), str(order_file)], name=name), settings)


def _node_path() -> list[str]:
    return os.environ.get("NODE_PATH", "").split(os.pathsep)
