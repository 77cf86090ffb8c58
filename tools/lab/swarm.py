"""The peers of one case, and what lets them find each other, on one line of a topology."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from tools.lab.addresses import endpoint
from tools.lab.cases import Case
from tools.lab.clients import CLIENTS
from tools.lab.clients.peer import Peer, PeerSettings, random_port
from tools.lab.dht import Dht, start_dht
from tools.lab.multicast import join_networks
from tools.lab.namespace import Namespace
from tools.lab.program import wait_until
from tools.lab.topology import Line
from tools.lab.torrent import Sources, make_torrent
from tools.lab.trackers import UNSEEN, Scheme, announce_url, start_tracker, start_unseen_tracker
from tools.lab.webseeds import HTTP_SEED_PATH, start_http_seed, start_web_seed

_TRACKER_SCHEMES: dict[str, Scheme] = {"http-tracker": "http", "udp-tracker": "udp"}
_SEED_TIMEOUT_S = 30.0


def start_swarm(line: Line, case: Case, size: int, upload_limit: int | None = None) -> Peer:
    """Start what the case needs, all but last the seed, and then the downloader, returned.

    The seed can be found, by whichever means the case names, before the downloader starts. It
    sends no more than `upload_limit` bytes in a second, if it is libtorrent.
    Raises LabError when a part is not ready in time.
    """
    family, discovery = case.family, case.discovery
    server, client = line.server_address(family), line.client_address(family)
    service_port, port = random_port(), random_port()
    seed_port = case.seed_port or random_port()
    scheme = _TRACKER_SCHEMES.get(discovery)
    web = f"http://{endpoint(server, service_port)}/"
    torrent = make_torrent(
        line.folder,
        size,
        Sources(
            trackers=_announce_urls(case, line, service_port),
            web_seed=web if discovery == "web-seed" else "",
            http_seed=f"{web}{HTTP_SEED_PATH}" if discovery == "http-seed" else "",
        ),
        case.version,
    )
    dht: Dht | None = None
    if scheme:
        start_tracker(line, scheme, family, service_port, torrent.info_hashes)
    elif discovery == "told":
        start_unseen_tracker(line, family, service_port, (server, seed_port))
    elif discovery == "dht":
        dht = start_dht(line, family, built_in_names=CLIENTS[case.downloader].asks_built_in_routers)
    elif discovery == "lsd":
        join_networks(line)
    arrivals = line.folder / "arrivals"
    arrivals.mkdir()
    downloader = PeerSettings(
        torrent=torrent,
        folder=arrivals,
        family=family,
        address=client,
        port=port,
        transport=case.transport,
        encryption=case.encryption,
        magnet=case.magnet,
        dht=dht is not None,
        dht_nodes=dht.nodes if dht else (),
        pex=discovery == "pex",
        lsd=discovery == "lsd",
        dial=((server, seed_port),) if discovery == "dial" else (),
    )
    seed = replace(
        downloader,
        seed=True,
        folder=torrent.folder,
        address=server,
        port=seed_port,
        magnet=False,
        pex=False,
        dial=((client, port),) if discovery == "dialled" else (),
        upload_limit=upload_limit,
    )
    if discovery == "web-seed":
        start_web_seed(line, torrent.folder, server, service_port)
    elif discovery == "http-seed":
        start_http_seed(line, torrent, server, service_port)
    else:
        peer = _start(line, line.server, seed, case.seed, "seed")
        _wait_for_seed(peer, dht, announces=scheme is not None)
    if discovery == "pex":
        _start_acquaintance(line, downloader, seed)
    return _start(line, line.client, downloader, case.downloader, "downloader")


def _announce_urls(case: Case, line: Line, port: int) -> tuple[str, ...]:
    if case.discovery == "told":
        return (announce_url("http", UNSEEN[case.family], port),)
    scheme = _TRACKER_SCHEMES.get(case.discovery)
    return (announce_url(scheme, line.server_address(case.family), port),) if scheme else ()


def _start(line: Line, where: Namespace, settings: PeerSettings, client: str, name: str) -> Peer:
    return CLIENTS[client].start(line, where, settings, name)


def _start_acquaintance(line: Line, downloader: PeerSettings, seed: PeerSettings) -> None:
    """Start a peer that calls both and tells each of the other, but gives nothing else."""
    (address,) = line.add_distant_addresses(1, downloader.family)
    settings = replace(
        seed,
        pex=True,
        address=address,
        port=random_port(),
        dial=((seed.address, seed.port), (downloader.address, downloader.port)),
        acquaintance=True,
    )
    _start(line, line.server, settings, "libtorrent", "acquaintance")


def _wait_for_seed(seed: Peer, dht: Dht | None, *, announces: bool) -> None:
    """Return when the seed can be reached, and found where it announces itself."""
    if seed.status_file is None:
        protocol: Literal["tcp", "udp"] = "udp" if seed.settings.transport == "utp" else "tcp"
        port = seed.settings.port
        seed.program.wait_for(lambda: seed.program.listens(protocol, port), _SEED_TIMEOUT_S)
        return

    def announced() -> bool:
        status = seed.status()
        return bool(status.get("seeding") and (status.get("tracker_replies") or not announces))

    seed.program.wait_for(announced, _SEED_TIMEOUT_S)
    if dht:
        wait_until(lambda: bool(dht.status().get("announces")), _SEED_TIMEOUT_S, "seed in the DHT")
