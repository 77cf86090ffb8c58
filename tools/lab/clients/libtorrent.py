"""libtorrent (Rasterbar), the library in qBittorrent and Deluge, through its Python binding.

It alone can force each transport and each level of encryption, and dial a peer that nothing
has announced.
"""

from __future__ import annotations

import json
from pathlib import Path

from tools.lab.addresses import endpoint
from tools.lab.clients.peer import Peer, PeerSettings
from tools.lab.namespace import Namespace
from tools.lab.topology import Line

# libtorrent's own names and values (settings_pack.hpp: enc_policy, enc_level).
_ENCRYPTION_POLICY = {"required": 0, "handshake": 0, "allowed": 1, "off": 2}
_LEVELS = {"handshake": 1, "required": 2, "allowed": 3, "off": 3}
_DRIVER = Path(__file__).parent.parent / "drivers" / "libtorrent_peer.py"
# Debian's interpreter, for which the binding is built.
PYTHON = "/usr/bin/python3"


def start(line: Line, where: Namespace, settings: PeerSettings, name: str) -> Peer:
    """Start libtorrent as a peer; its status counts bytes, peers and what discovery gave."""
    status_file = line.folder / f"{name}.status.json"
    order = {
        "settings": session_settings(settings),
        "source": settings.source,
        "folder": str(settings.folder),
        "seed": settings.seed,
        "pex": settings.pex,
        "dht": settings.dht,
        "lsd": settings.lsd,
        "dial": list(settings.dial),
        "acquaintance": settings.acquaintance,
        "upload_limit": settings.upload_limit,
        "status_file": str(status_file),
    }
    order_file = line.folder / f"{name}.order.json"
    order_file.write_text(json.dumps(order))
    program = line.spawn(where, [PYTHON, str(_DRIVER), str(order_file)], name=name)
    return Peer(program, settings, status_file)


def session_settings(settings: PeerSettings) -> dict[str, object]:
    """The settings pack (libtorrent's reference, settings_pack) for one peer."""
    tcp = settings.transport in ("tcp", "both")
    utp = settings.transport in ("utp", "both")
    policy = _ENCRYPTION_POLICY[settings.encryption]
    choking = {"unchoke_slots_limit": 0, "allowed_fast_set_size": 0}
    return {
        **private_network_settings(),
        "listen_interfaces": endpoint(settings.address, settings.port),
        "outgoing_interfaces": settings.address,
        "enable_incoming_tcp": tcp,
        "enable_outgoing_tcp": tcp,
        "enable_incoming_utp": utp,
        "enable_outgoing_utp": utp,
        "in_enc_policy": policy,
        "out_enc_policy": policy,
        "allowed_enc_level": _LEVELS[settings.encryption],
        "prefer_rc4": settings.encryption == "required",
        "enable_dht": settings.dht,
        "enable_lsd": settings.lsd,
        # Not all: nodes named here never enter the routing table.
        "dht_bootstrap_nodes": ",".join(endpoint(*node) for node in settings.dht_nodes[:3]),
        **(choking if settings.acquaintance else {}),
    }


def private_network_settings() -> dict[str, object]:
    """What every session in the lab needs: no port mapping, and neighbours may share a net."""
    return {
        "enable_upnp": False,
        "enable_natpmp": False,
        "enable_dht": False,
        "enable_lsd": False,
        "allow_multiple_connections_per_ip": True,
        # The defaults keep two DHT nodes of one small network out of a routing table.
        "dht_restrict_routing_ips": False,
        "dht_restrict_search_ips": False,
        "dht_enforce_node_id": False,
        "dht_prefer_verified_node_ids": False,
        "dht_ignore_dark_internet": False,
        "min_reconnect_time": 1,
        "local_service_announce_interval": 5,
        "urlseed_wait_retry": 4,
        # Keep-alives every 15 s: what comes with a handshake over uTP, Transmission 3.00 leaves
        # unread until something follows.
        "peer_timeout": 30,
        # A seed and an acquaintance have nothing to give each other but peers.
        "close_redundant_connections": False,
        "alert_queue_size": 10_000,
    }
