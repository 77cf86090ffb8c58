"""aria2. It speaks no uTP, and dials MSE first whatever it is told, plain TCP after that."""

from __future__ import annotations

from tools.lab.addresses import endpoint
from tools.lab.clients.peer import Peer, PeerSettings
from tools.lab.namespace import Namespace
from tools.lab.topology import Line


def start(line: Line, where: Namespace, settings: PeerSettings, name: str) -> Peer:
    """Start aria2c; raises LabError for what it cannot be told."""
    settings.refuse("aria2", uTP=settings.transport == "utp", dialling=bool(settings.dial))
    argv = ["aria2c", *_options(settings, dht_file=str(line.folder / f"{name}.dht"))]
    argv.append(settings.source)
    return Peer(line.spawn(where, argv, name=name), settings)


def _options(settings: PeerSettings, dht_file: str) -> list[str]:
    # Its UDP trackers share a socket with the DHT, and exist only where that is enabled.
    udp_tracker = any(url.startswith("udp:") for url in settings.torrent.trackers)
    dht = settings.dht or udp_tracker
    options = {
        "no-conf": True,
        "dir": settings.folder,
        "interface": settings.address,
        "disable-ipv6": settings.family == 4,
        "listen-port": settings.port,
        "enable-dht": dht and settings.family == 4,
        "enable-dht6": dht and settings.family == 6,
        "dht-file-path": dht_file,
        "dht-file-path6": dht_file,
        "bt-enable-lpd": settings.lsd,
        "enable-peer-exchange": settings.pex,
        # With the level `plain` it offers both kinds of payload, and the other side chooses.
        "bt-require-crypto": settings.encryption in ("handshake", "required"),
        "bt-min-crypto-level": "arc4" if settings.encryption == "required" else "plain",
        "check-integrity": settings.seed,
        "seed-ratio": "0.0",
        # What is on disk is the evidence.
        "disk-cache": 0,
        "file-allocation": "none",
        "allow-overwrite": True,
        "console-log-level": "info",
        "summary-interval": 0,
        "show-console-readout": False,
        "enable-color": False,
    }
    if dht:
        options["dht-listen-port"] = settings.port
    if dht and settings.family == 6:
        options["dht-listen-addr6"] = settings.address
    if settings.dht_nodes:
        entry = "dht-entry-point" if settings.family == 4 else "dht-entry-point6"
        options[entry] = endpoint(*settings.dht_nodes[0])
    return [f"--{key}={_text(value)}" for key, value in options.items()]


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
