"""Ways that packets take past the queue."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from engine.config import Settings
from engine.doctor.finding import Finding, ok, warning
from engine.service.interfaces import chosen_interfaces

_FORWARDING = {
    "IPv4": Path("/proc/sys/net/ipv4/ip_forward"),
    "IPv6": Path("/proc/sys/net/ipv6/conf/all/forwarding"),
}
_BRIDGED = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")


def network(settings: Settings) -> Iterator[Finding]:
    """Forwarding, bridges, and flow tables."""
    if "FORWARD" in settings.chain:
        forwarded = [
            version
            for version, file in _FORWARDING.items()
            if file.exists() and file.read_text().strip() != "0"
        ]
        if forwarded:
            yield ok(f"this machine forwards {' and '.join(forwarded)}")
        else:
            yield warning(
                "this machine forwards nothing, so the rules in FORWARD see nothing",
                "on a gateway: sysctl -w net.ipv4.ip_forward=1; on a single host: --chain INPUT",
            )
    if not (_BRIDGED.exists() and _BRIDGED.read_text().strip() == "1"):
        for name in chosen_interfaces(settings.interface):
            if bridge := _bridge_of(name):
                yield warning(
                    f"{name} is a port of the bridge {bridge}: what is bridged does not come to"
                    " iptables",
                    "modprobe br_netfilter; sysctl -w net.bridge.bridge-nf-call-iptables=1"
                    " net.bridge.bridge-nf-call-ip6tables=1",
                )
    yield from _flow_tables()


def _bridge_of(interface: str) -> str:
    """The bridge that an interface is a port of, if it is of one."""
    shown = subprocess.run(
        ["ip", "-json", "-details", "link", "show", "dev", interface],
        capture_output=True,
        check=False,
    )
    link = json.loads(shown.stdout)[0] if shown.returncode == 0 else {}
    if link.get("linkinfo", {}).get("info_slave_kind") != "bridge":
        return ""
    return str(link["master"])


def _flow_tables() -> Iterator[Finding]:
    try:
        shown = subprocess.run(
            ["nft", "list", "flowtables"], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:  # nobody could have made one
        return
    for name in re.findall(r"flowtable (\S+) \{", shown.stdout):
        yield warning(
            f"the flow table {name} forwards flows past the queue once they are in it",
            "add flows to it late (ct packets > 20), or not at all",
        )
