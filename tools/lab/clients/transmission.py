"""Transmission's daemon, told what to do by a settings file and a watched folder.

Version 3.00 cannot turn TCP off. It announces and connects within seconds, but asks no peer
for data in its first 13 s.
"""

from __future__ import annotations

import json
import shutil

from tools.lab.clients.peer import Peer, PeerSettings
from tools.lab.namespace import Namespace
from tools.lab.topology import Topology

_ENCRYPTION = {"off": 0, "allowed": 1, "required": 2}


def start(topology: Topology, where: Namespace, settings: PeerSettings, name: str) -> Peer:
    """Start transmission-daemon; raises LabError for what it cannot be told."""
    settings.refuse(
        "transmission", utp_only=settings.transport == "utp", dialling=bool(settings.dial)
    )
    home = topology.folder / name
    watched = home / "watched"
    watched.mkdir(parents=True)
    (home / "settings.json").write_text(json.dumps(_settings(settings, str(watched))))
    # With a ready resume file there would be no need to look at the payload; without one
    # it is hashed at the start, which takes a moment only.
    shutil.copy(settings.torrent.metainfo, watched)
    argv = ["transmission-daemon", "--foreground", "--log-debug", "--config-dir", str(home)]
    return Peer(topology.spawn(where, argv, name=name), settings)


def _settings(settings: PeerSettings, watched: str) -> dict[str, object]:
    return {
        # The other family is left at its default: it binds its tracker requests, whichever
        # the tracker's family, to an IPv4 address that it is given.
        "bind-address-ipv4": settings.address if settings.family == 4 else "0.0.0.0",
        "bind-address-ipv6": settings.address if settings.family == 6 else "::",
        "peer-port": settings.port,
        "peer-port-random-on-start": False,
        "port-forwarding-enabled": False,
        "rpc-enabled": False,
        "utp-enabled": settings.transport == "both",
        "encryption": _ENCRYPTION[settings.encryption],
        "dht-enabled": settings.dht,
        "lpd-enabled": settings.lsd,
        "pex-enabled": settings.pex,
        "download-dir": str(settings.folder),
        "watch-dir": watched,
        "watch-dir-enabled": True,
        "start-added-torrents": True,
        # What is on disk is the evidence: no write cache, no other name meanwhile.
        "cache-size-mb": 0,
        "rename-partial-files": False,
        "incomplete-dir-enabled": False,
        "preallocation": 0,
    }
