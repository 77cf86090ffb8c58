"""Several libtorrent sessions as DHT nodes; Debian's interpreter runs this in a namespace.

    python3 dht_swarm.py ORDER.json

The order is what tools.lab.dht writes: one node per address, all on one port.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path

import libtorrent as lt

_POLL_S = 0.1
_ALERTS = (
    lt.alert.category_t.dht_notification
    | lt.alert.category_t.error_notification
    | lt.alert.category_t.status_notification
)


def main(order_path: str) -> None:
    """Run the nodes until ended."""
    # What replaces session.status() answers later, through an alert.
    warnings.simplefilter("ignore", DeprecationWarning)
    order = json.loads(Path(order_path).read_text())
    port = order["port"]
    hosts = [f"[{each}]" if ":" in each else each for each in order["addresses"]]
    sessions = [
        lt.session(
            {
                **order["settings"],
                "listen_interfaces": f"{host}:{port}",
                "enable_dht": True,
                # A node named for bootstrapping never enters the routing table itself.
                "dht_bootstrap_nodes": "",
                "alert_mask": _ALERTS,
            }
        )
        for host in hosts
    ]
    _introduce(sessions, order["addresses"], port)
    if ":" in hosts[0]:
        _settle_node_ids(sessions)
        _introduce(sessions, order["addresses"], port)
    status_file = Path(order["status_file"])
    counts = {"announces": 0, "lookups": 0}
    while True:
        for session in sessions:
            for alert in session.pop_alerts():
                print(time.strftime("%H:%M:%S"), type(alert).__name__, alert.message(), flush=True)
                counts["announces"] += isinstance(alert, lt.dht_announce_alert)
                counts["lookups"] += isinstance(alert, lt.dht_get_peers_alert)
        report = {**counts, "nodes": min(session.status().dht_nodes for session in sessions)}
        unfinished = status_file.with_suffix(".new")
        unfinished.write_text(json.dumps(report))
        unfinished.replace(status_file)
        time.sleep(_POLL_S)


def _introduce(sessions: list[lt.session], addresses: list[str], port: int) -> None:
    for session in sessions:
        for address in addresses:
            session.add_dht_node((address, port))


def _settle_node_ids(sessions: list[lt.session]) -> None:
    """Give every node the id that it will keep.

    A node that learns from others which global address it has takes an id made from it
    (BEP 42), and the others go on asking for the old one, for minutes. So let all learn
    theirs, and begin again: a DHT that is started then has the right id at once.
    """
    unsettled = list(sessions)
    while unsettled:
        time.sleep(_POLL_S)
        for session in list(unsettled):
            if any(isinstance(alert, lt.external_ip_alert) for alert in session.pop_alerts()):
                unsettled.remove(session)
    for enabled in (False, True):
        for session in sessions:
            session.apply_settings({"enable_dht": enabled})


if __name__ == "__main__":
    main(sys.argv[1])
