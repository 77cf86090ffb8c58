"""A DHT of its own (BEP 5, BEP 32) on the server's side, with no way to the real one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tools.lab.addresses import Family
from tools.lab.clients.libtorrent import PYTHON, private_network_settings
from tools.lab.clients.peer import random_port
from tools.lab.program import Program
from tools.lab.topology import Line

_DRIVER = Path(__file__).parent / "drivers" / "dht_swarm.py"
_READY_TIMEOUT_S = 20.0
# Where clients that cannot be told find their first nodes.
_BUILT_IN_NAMES = (
    "dht.aelitis.com",
    "dht.libtorrent.org",
    "dht.transmissionbt.com",
    "router.bittorrent.com",
    "router.utorrent.com",
)
_BUILT_IN_PORT = 6881


@dataclass(frozen=True, slots=True)
class Dht:
    """A running DHT; `nodes` are all there are, to begin with."""

    program: Program
    nodes: tuple[tuple[str, int], ...]
    status_file: Path

    def status(self) -> dict[str, int]:
        """`nodes` in the emptiest routing table, `announces` stored, `lookups` asked."""
        if not self.status_file.exists():
            return {}
        status: dict[str, int] = json.loads(self.status_file.read_text())
        return status


def start_dht(line: Line, family: Family, *, nodes: int = 12, built_in_names: bool = False) -> Dht:
    """Start `nodes` DHT nodes, each with an address of its own; returns when they know each other.

    With `built_in_names` the first of them answer, in the client's namespace, to the names
    that clients have built in. Raises LabError when the nodes are not ready in time.
    """
    port = _BUILT_IN_PORT if built_in_names else random_port()
    addresses = line.add_distant_addresses(nodes, family)
    status_file = line.folder / "dht.status.json"
    order = {
        "settings": private_network_settings(),
        "addresses": addresses,
        "port": port,
        "status_file": str(status_file),
    }
    if built_in_names:
        line.topology.set_hosts(line.client, dict.fromkeys(_BUILT_IN_NAMES, addresses[:3]))
    order_file = line.folder / "dht.order.json"
    order_file.write_text(json.dumps(order))
    program = line.spawn(line.server, [PYTHON, str(_DRIVER), str(order_file)], name="dht")
    dht = Dht(program, tuple((address, port) for address in addresses), status_file)
    program.wait_for(lambda: dht.status().get("nodes", 0) >= nodes // 2, _READY_TIMEOUT_S)
    return dht
