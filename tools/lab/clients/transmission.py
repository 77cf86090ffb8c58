"""Transmission's daemon, told what to do by a settings file and a watched folder.

Version 3.00 cannot turn TCP off: where a case is of uTP alone, it is the other side that has
no TCP. It announces and connects within seconds, but asks no peer for data in its first 13 s.
"""

from __future__ import annotations

import json
import os
import shutil
from ipaddress import ip_address

from tools.lab.clients.peer import Peer, PeerSettings
from tools.lab.namespace import Namespace
from tools.lab.topology import Line

_ENCRYPTION = {"off": 0, "allowed": 1, "required": 2}
_RPC_PORT = 9091
_RPC_TIMEOUT_S = 10.0


def start(line: Line, where: Namespace, settings: PeerSettings, name: str) -> Peer:
    """Start transmission-daemon; raises LabError for what it cannot be told."""
    settings.refuse(
        "transmission",
        dialling=bool(settings.dial),
        plaintext_after_MSE=settings.encryption == "handshake",
    )
    home = line.folder / name
    watched = home / "watched"
    watched.mkdir(parents=True)
    (home / "settings.json").write_text(json.dumps(_settings(settings, str(watched))))
    if settings.dht_nodes:
        (home / "dht.dat").write_bytes(_known_nodes(settings))
    if not settings.magnet:
        # With a ready resume file there would be no need to look at the payload; without
        # one it is hashed at the start, which takes a moment only.
        shutil.copy(settings.torrent.metainfo, watched)
    argv = ["transmission-daemon", "--foreground", "--log-debug", "--config-dir", str(home)]
    program = line.spawn(where, argv, name=name)
    if settings.magnet:  # which it looks for in no folder
        program.wait_for(lambda: program.listens("tcp", _RPC_PORT), _RPC_TIMEOUT_S)
        where.run(["transmission-remote", "--add", settings.source])
    return Peer(program, settings)


def _known_nodes(settings: PeerSettings) -> bytes:
    """The nodes that it knew when it last ended, as it keeps them (tr-dht.c)."""
    compact = b"".join(
        ip_address(address).packed + port.to_bytes(2, "big") for address, port in settings.dht_nodes
    )
    key = b"5:nodes" if settings.family == 4 else b"6:nodes6"
    return b"d2:id20:%b%b%d:%be" % (os.urandom(20), key, len(compact), compact)


def _settings(settings: PeerSettings, watched: str) -> dict[str, object]:
    return {
        # The other family is left at its default: it binds its tracker requests, whichever
        # the tracker's family, to an IPv4 address that it is given.
        "bind-address-ipv4": settings.address if settings.family == 4 else "0.0.0.0",
        "bind-address-ipv6": settings.address if settings.family == 6 else "::",
        "peer-port": settings.port,
        "peer-port-random-on-start": False,
        "port-forwarding-enabled": False,
        "rpc-enabled": settings.magnet,
        "rpc-bind-address": "127.0.0.1",
        "rpc-port": _RPC_PORT,
        "utp-enabled": settings.transport != "tcp",
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
