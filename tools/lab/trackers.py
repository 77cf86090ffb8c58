"""Real trackers: which program serves which scheme over which address family.

Debian's opentracker speaks HTTP and UDP (BEP 3, BEP 15), but IPv4 only. Over IPv6 HTTP is
the tracker built into qBittorrent, and UDP is pybtracker: the trackers from npm and Debian
answer a UDP announce over IPv6 with no IPv6 peers.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Literal

from tools.lab.addresses import Family, endpoint
from tools.lab.clients.qbittorrent import write_profile
from tools.lab.program import Program
from tools.lab.topology import HOST_INTERFACE, Line

Scheme = Literal["http", "udp"]

UNSEEN: dict[Family, str] = {4: "192.0.2.1", 6: "2001:db8:ffff::1"}
"""Addresses that the router knows no way to."""
_READY_TIMEOUT_S = 10.0
_PYBTRACKER_DRIVER = Path(__file__).parent / "drivers" / "udp_tracker.py"


def announce_url(scheme: Scheme, address: str, port: int) -> str:
    """The URL under which clients find the tracker at an address."""
    return f"{scheme}://{endpoint(address, port)}/announce"


def start_tracker(
    line: Line, scheme: Scheme, family: Family, port: int, info_hashes: Sequence[str]
) -> Program:
    """Start a tracker in the server's namespace that knows one torrent; returns when it listens.

    Raises LabError when the program ends or does not listen in time.
    """
    if family == 4:
        argv = _opentracker(line, port, info_hashes)
    elif scheme == "http":
        argv = _qbittorrent(line, port)
    else:
        argv = [sys.executable, str(_PYBTRACKER_DRIVER), line.server_address(6), str(port)]
    program = line.spawn(line.server, argv, name=f"tracker-{scheme}{family}")
    protocol: Literal["tcp", "udp"] = "tcp" if scheme == "http" else "udp"
    program.wait_for(lambda: program.listens(protocol, port), _READY_TIMEOUT_S)
    return program


def start_unseen_tracker(line: Line, family: Family, port: int, seed: tuple[str, int]) -> Program:
    """Let the client know of a seed without a word through the router; returns when it can.

    So does a tracker over HTTPS, whose words the router cannot read. Here it is one at
    UNSEEN, on the client's own machine, that always gives the same answer (BEP 23, BEP 7).
    """
    address, peer_port = seed
    peer = ip_address(address).packed + peer_port.to_bytes(2, "big")
    key = b"5:peers" if len(peer) == 6 else b"6:peers6"
    root = line.folder / "tracker-unseen"
    root.mkdir()
    (root / "announce").write_bytes(b"d8:intervali5e%b%d:%be" % (key, len(peer), peer))
    # On the interface that clients may be bound to, but never theirs to call from.
    where = ["dev", HOST_INTERFACE, "preferred_lft", "0"]
    if family == 6:
        where.append("nodad")  # or it cannot be listened on for a moment
    line.client.run(["ip", "addr", "add", UNSEEN[family], *where])
    listen = endpoint(UNSEEN[family], port)
    argv = ["busybox", "httpd", "-f", "-p", listen, "-h", str(root)]
    program = line.spawn(line.client, argv, name="tracker-unseen")
    program.wait_for(lambda: program.listens("tcp", port), _READY_TIMEOUT_S)
    return program


def _opentracker(line: Line, port: int, info_hashes: Sequence[str]) -> list[str]:
    # It locks itself into this folder and becomes nobody, who has to read the whitelist there.
    root = line.folder / "tracker"
    root.mkdir(mode=0o755)
    (root / "whitelist").write_text("".join(f"{each}\n" for each in info_hashes))
    where = ["-i", line.server_address(4), "-p", str(port), "-P", str(port)]
    return ["opentracker", *where, "-d", str(root), "-w", "whitelist"]


def _qbittorrent(line: Line, port: int) -> list[str]:
    profile = write_profile(
        line.folder / "tracker-qbittorrent",
        {"DHTEnabled": False, "LSDEnabled": False, "PeXEnabled": False},
        {"Advanced\\trackerEnabled": True, "Advanced\\trackerPort": port},
    )
    return ["qbittorrent-nox", f"--profile={profile}"]
