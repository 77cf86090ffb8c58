"""qBittorrent without a window. What it may do stands in a profile of its own."""

from __future__ import annotations

from pathlib import Path

from tools.lab.clients.peer import Peer, PeerSettings
from tools.lab.namespace import Namespace
from tools.lab.topology import Line

_TRANSPORT = {"both": "Both", "tcp": "TCP", "utp": "UTP"}
_ENCRYPTION = {"allowed": 0, "required": 1, "off": 2}


def start(line: Line, where: Namespace, settings: PeerSettings, name: str) -> Peer:
    """Start qbittorrent-nox; raises LabError for what it cannot be told."""
    settings.refuse(
        "qBittorrent",
        dialling=bool(settings.dial),
        plaintext_after_MSE=settings.encryption == "handshake",
    )
    profile = write_profile(
        line.folder / name,
        {
            "BTProtocol": _TRANSPORT[settings.transport],
            "Encryption": _ENCRYPTION[settings.encryption],
            "DHTEnabled": settings.dht,
            "LSDEnabled": settings.lsd,
            "PeXEnabled": settings.pex,
            "Port": settings.port,
            "InterfaceAddress": settings.address,
        },
    )
    argv = ["qbittorrent-nox", f"--profile={profile}", f"--save-path={settings.folder}"]
    argv += ["--skip-dialog=true", settings.source]
    return Peer(line.spawn(where, argv, name=name), settings)


def write_profile(
    profile: Path, session: dict[str, object], preferences: dict[str, object] | None = None
) -> Path:
    """Make a profile folder with these settings, by qBittorrent's own names; returns it."""
    settings = profile / "qBittorrent" / "config" / "qBittorrent.conf"
    settings.parent.mkdir(parents=True)
    sections: dict[str, dict[str, object]] = {
        "BitTorrent": {f"Session\\{key}": value for key, value in session.items()},
        "LegalNotice": {"Accepted": True},
        "Network": {"PortForwardingEnabled": False},
        "Preferences": {
            "WebUI\\Enabled": False,
            # Else it fetches a table of countries from the Internet.
            "Connection\\ResolvePeerCountries": False,
            **(preferences or {}),
        },
    }
    settings.write_text(
        "\n".join(
            f"[{section}]\n" + "".join(f"{key}={_text(value)}\n" for key, value in values.items())
            for section, values in sections.items()
        )
    )
    return profile


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
