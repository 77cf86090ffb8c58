"""One libtorrent session with one torrent; Debian's interpreter runs this in a namespace.

    python3 libtorrent_peer.py ORDER.json

The order is what tools.lab.clients.libtorrent writes. Until it is ended the session tries
hard: it dials, announces and looks up again every few seconds, as no patient client would,
so that an observation of half a minute sees many attempts.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import libtorrent as lt

_POLL_S = 0.1
_RETRY_S = 4.0
_WANTED_ALERTS = (
    lt.alert.category_t.status_notification
    | lt.alert.category_t.tracker_notification
    | lt.alert.category_t.dht_notification
    | lt.alert.category_t.error_notification
    | lt.alert.category_t.peer_notification
    | lt.alert.category_t.connect_notification
)


def main(order_path: str) -> None:
    """Run the peer until ended."""
    # What replaces session.status() answers later, through an alert.
    warnings.simplefilter("ignore", DeprecationWarning)
    order = json.loads(Path(order_path).read_text())
    session = lt.session({**order["settings"], "alert_mask": _WANTED_ALERTS})
    if order["acquaintance"]:
        # The default puts neighbours into a class of peers that are never choked.
        session.set_peer_class_filter(lt.ip_filter())
    handle = session.add_torrent(_parameters(order))
    status_file = Path(order["status_file"])
    counts = {"tracker_replies": 0, "tracker_peers": 0, "dht_peers": 0}
    neighbours: set[tuple[str, int]] = set()
    next_try = 0.0
    while True:
        for alert in session.pop_alerts():
            _count(alert, counts)
        status = handle.status()
        if time.monotonic() >= next_try and status.state != lt.torrent_status.checking_files:
            next_try = time.monotonic() + _RETRY_S
            _try_again(handle, order, missing=order["acquaintance"] or not status.num_peers)
        neighbours |= {
            peer.ip for peer in handle.get_peer_info() if peer.source & (peer.pex | peer.lsd)
        }
        report = {
            **counts,
            "neighbours": len(neighbours),  # that PEX or LSD has named
            "dht_nodes": session.status().dht_nodes,
            "seeding": int(status.is_seeding),
            "payload_bytes": status.total_payload_download,
            "peers": status.num_peers,
        }
        unfinished = status_file.with_suffix(".new")
        unfinished.write_text(json.dumps(report))
        unfinished.replace(status_file)
        time.sleep(_POLL_S)


def _parameters(order: dict[str, Any]) -> lt.add_torrent_params:
    if order["source"].startswith("magnet:"):
        parameters = lt.parse_magnet_uri(order["source"])
    else:
        parameters = lt.add_torrent_params()
        parameters.ti = lt.torrent_info(order["source"])
    parameters.save_path = order["folder"]
    flags = lt.torrent_flags.update_subscribe
    for wanted, flag in (
        (order["pex"], lt.torrent_flags.disable_pex),
        (order["dht"], lt.torrent_flags.disable_dht),
        (order["lsd"], lt.torrent_flags.disable_lsd),
    ):
        if not wanted:
            flags |= flag
    parameters.flags = flags
    parameters.upload_limit = order["upload_limit"] or -1
    return parameters


def _try_again(handle: lt.torrent_handle, order: dict[str, Any], *, missing: bool) -> None:
    if not missing:
        return
    for address, port in order["dial"]:
        handle.connect_peer((address, port))
    if handle.trackers():
        handle.force_reannounce(0, -1, lt.reannounce_flags_t.ignore_min_interval)
    if order["dht"]:
        handle.force_dht_announce()


def _count(alert: lt.alert, counts: dict[str, int]) -> None:
    print(time.strftime("%H:%M:%S"), type(alert).__name__, alert.message(), flush=True)
    if isinstance(alert, lt.dht_reply_alert):
        counts["dht_peers"] += alert.num_peers
    elif isinstance(alert, lt.tracker_reply_alert):
        counts["tracker_replies"] += 1
        counts["tracker_peers"] += alert.num_peers


if __name__ == "__main__":
    main(sys.argv[1])
