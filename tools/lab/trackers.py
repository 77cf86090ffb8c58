"""Real trackers: which program serves which scheme over which address family.

Debian's opentracker speaks HTTP and UDP (BEP 3, BEP 15), but IPv4 only. Over IPv6 HTTP is
the tracker built into qBittorrent, and UDP is pybtracker: the trackers from npm and Debian
answer a UDP announce over IPv6 with no IPv6 peers.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from tools.lab.program import Program
from tools.lab.topology import Family, Topology, endpoint

Scheme = Literal["http", "udp"]

_READY_TIMEOUT_S = 10.0
_PYBTRACKER_DRIVER = Path(__file__).parent / "drivers" / "udp_tracker.py"
_QBITTORRENT_SETTINGS = """\
[BitTorrent]
Session\\DHTEnabled=false
Session\\LSDEnabled=false
Session\\PeXEnabled=false

[LegalNotice]
Accepted=true

[Network]
PortForwardingEnabled=false

[Preferences]
Advanced\\trackerEnabled=true
Advanced\\trackerPort={port}
WebUI\\Enabled=false
"""


def announce_url(scheme: Scheme, family: Family, port: int) -> str:
    """The URL under which clients find the tracker at the server."""
    return f"{scheme}://{endpoint(Topology.server_address(family), port)}/announce"


def start_tracker(
    topology: Topology, scheme: Scheme, family: Family, port: int, info_hash: str
) -> Program:
    """Start a tracker in the server's namespace that knows one torrent; returns when it listens.

    Raises LabError when the program ends or does not listen in time.
    """
    if family == 4:
        argv = _opentracker(topology, port, info_hash)
    elif scheme == "http":
        argv = _qbittorrent(topology, port)
    else:
        argv = [sys.executable, str(_PYBTRACKER_DRIVER), topology.server_address(6), str(port)]
    program = topology.spawn(topology.server, argv, name=f"tracker-{scheme}{family}")
    protocol: Literal["tcp", "udp"] = "tcp" if scheme == "http" else "udp"
    program.wait_for(lambda: program.listens(protocol, port), _READY_TIMEOUT_S)
    return program


def _opentracker(topology: Topology, port: int, info_hash: str) -> list[str]:
    # It locks itself into this folder and becomes nobody, who has to read the whitelist there.
    root = topology.folder / "tracker"
    root.mkdir(mode=0o755)
    (root / "whitelist").write_text(f"{info_hash}\n")
    where = ["-i", topology.server_address(4), "-p", str(port), "-P", str(port)]
    return ["opentracker", *where, "-d", str(root), "-w", "whitelist"]


def _qbittorrent(topology: Topology, port: int) -> list[str]:
    profile = topology.folder / "tracker-qbittorrent"
    settings = profile / "qBittorrent" / "config" / "qBittorrent.conf"
    settings.parent.mkdir(parents=True)
    settings.write_text(_QBITTORRENT_SETTINGS.format(port=port))
    return ["qbittorrent-nox", f"--profile={profile}"]
