"""One LAN on both sides of the router, so that local service discovery (BEP 14) crosses it.

A router keeps announcements on the LAN that they were made in, where no gateway could stop
them. Where they do pass one, it is a bridge, or joins two halves of a network as this one
does: it answers ARP for the other half (RFC 1027) and routes multicast.
"""

from __future__ import annotations

from pathlib import Path

from tools.lab.clients.libtorrent import PYTHON
from tools.lab.topology import HOST_INTERFACE, Line

_DRIVER = Path(__file__).parent / "drivers" / "multicast_router.py"
_LSD_GROUP = "239.192.152.143"
_COMMON_PREFIX_BITS = 16
_TTL = 8
_FIRST_TABLE = 100
_READY_TIMEOUT_S = 10.0


def join_networks(line: Line) -> None:
    """Make both sides one IPv4 network while the topology lasts; raises LabError."""
    sides = (
        (line.client, line.client_address(4), line.lan_interface),
        (line.server, line.server_address(4), line.wan_interface),
    )
    for (host, address, interface), gateway in zip(sides, line.addresses.gateways(4), strict=True):
        commands = [
            # Clients take nobody's word who is not in their own network.
            f"ip addr flush dev {HOST_INTERFACE}",
            f"ip addr add {address}/{_COMMON_PREFIX_BITS} dev {HOST_INTERFACE}",
            f"ip route add default via {gateway}",
        ]
        host.run(["sh", "-ec", "\n".join(commands)])
        line.router.run(["sysctl", "-qw", f"net.ipv4.conf.{interface}.proxy_arp=1"])
    # Transmission and aria2 announce themselves with a TTL of 1.
    rule = ["-d", _LSD_GROUP, "-j", "TTL", "--ttl-set", str(_TTL)]
    line.router.run(["iptables", "-t", "mangle", "-A", "PREROUTING", *rule])
    # A table of routes for each line: one belongs to one process.
    table = str(_FIRST_TABLE + line.number)
    for _, _, interface in sides:
        line.router.run(["ip", "mrule", "add", "iif", interface, "lookup", table])
    argv = [PYTHON, str(_DRIVER), table, _LSD_GROUP]
    argv += [word for _, address, interface in sides for word in (interface, address)]
    program = line.spawn(line.router, argv, name="multicast")
    program.wait_for(lambda: "routing" in program.log.read_text(), _READY_TIMEOUT_S)
