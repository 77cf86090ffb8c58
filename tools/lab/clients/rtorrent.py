"""rTorrent, whose library (rakshasa's libtorrent) has nothing in common with Rasterbar's.

It speaks neither uTP nor IPv6 nor local service discovery, and takes no web seeds.
"""

from __future__ import annotations

from tools.lab.clients.peer import Peer, PeerSettings
from tools.lab.namespace import Namespace
from tools.lab.topology import Line

_ENCRYPTION = {
    "off": "none",
    "allowed": "allow_incoming,try_outgoing,enable_retry",
    "handshake": "allow_incoming,try_outgoing,require,prefer_plaintext",
    "required": "allow_incoming,try_outgoing,require,require_RC4",
}


def start(line: Line, where: Namespace, settings: PeerSettings, name: str) -> Peer:
    """Start rtorrent; raises LabError for what it cannot be told."""
    settings.refuse(
        "rTorrent",
        uTP=settings.transport == "utp",
        IPv6=settings.family == 6,
        LSD=settings.lsd,
        dialling=bool(settings.dial),
    )
    home = line.folder / name
    home.mkdir()
    configuration = home / "rtorrent.rc"
    configuration.write_text("".join(f"{each}\n" for each in _commands(settings, str(home))))
    argv = ["rtorrent", "-n", "-o", f"import={configuration}"]
    return Peer(line.spawn(where, argv, name=name), settings)


def _commands(settings: PeerSettings, home: str) -> list[str]:
    commands = [
        "system.daemon.set = true",
        f"session.path.set = {home}",
        f"directory.default.set = {settings.folder}",
        f"network.bind_address.set = {settings.address}",
        f"network.port_range.set = {settings.port}-{settings.port}",
        "network.port_random.set = no",
        f"protocol.encryption.set = {_ENCRYPTION[settings.encryption]}",
        f"protocol.pex.set = {'yes' if settings.pex else 'no'}",
        # Where the DHT is disabled, and not just off, a torrent without trackers is refused.
        f"dht.mode.set = {'on' if settings.dht else 'off'}",
        f"dht.port.set = {settings.port}",
        # What is on disk is the evidence.
        "system.file.allocate.set = 0",
    ]
    commands += [
        f'schedule2 = dht_{number}, 1, 5, "dht.add_node={address}:{port}"'
        for number, (address, port) in enumerate(settings.dht_nodes)
    ]
    commands.append(f'schedule2 = torrent, 0, 0, "load.start={settings.source}"')
    return commands
