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
_ALERTS = lt.alert.category_t.dht_notification | lt.alert.category_t.error_notification


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
    for session in sessions:
        for address in order["addresses"]:
            session.add_dht_node((address, port))
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


if __name__ == "__main__":
    main(sys.argv[1])
