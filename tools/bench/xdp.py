"""What the XDP program costs a packet, by the kernel's own test run.

Runs in the namespace whose interface it attaches to: `python -m tools.bench.xdp IF`
prints one JSON object. BPF_PROG_TEST_RUN calls the program on the same packet again and
again and returns the average, without the driver around it.
"""

from __future__ import annotations

import ipaddress
import json
import re
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from engine.enforce.xdp import XdpFilter, XdpMode
from engine.errors import UnavailableError
from tools.lab.program import LabError
from tools.lab.topology import LAN_INTERFACE, Topology

BANS = 100_000
_CAPACITY = 2 * BANS
_REPEAT = 2_000_000
_RUNS = 5
_BAN_NS = 3600 * 10**9
_ARP = (bytes(12) + b"\x08\x06").ljust(64, b"\0")
_NO_LOOKUP = "no look-up (ARP)"
_CASES = ("miss, no bans", f"miss, {BANS:,} bans", f"hit, {BANS:,} bans")


@dataclass(frozen=True, slots=True)
class PacketCost:
    """Nanoseconds a packet, the median over some runs."""

    ip_version: int | None
    """None for what is not IP: the price of the program without a look-up."""
    case: str
    ns: float


def packet_costs(topology: Topology) -> list[PacketCost]:
    """Measure in the router's namespace; raises LabError with the reason if that fails."""
    done = topology.router.run(
        [sys.executable, "-m", "tools.bench.xdp", LAN_INTERFACE], timeout_s=300
    )
    return [PacketCost(**cost) for cost in json.loads(done.stdout)]


def _measure(interface: str) -> list[PacketCost]:
    costs = []
    with (
        XdpFilter([interface], XdpMode.GENERIC, capacity=_CAPACITY) as xdp,
        tempfile.TemporaryDirectory() as folder,
    ):
        program_id = xdp.attachments[0].program_id
        clean, banned = {}, {}
        for version, network in ((4, "203.0.113.0"), (6, "2001:db8:1::")):
            first = ipaddress.ip_address(network)
            clean[version] = _packet(first, first + 1)
            banned[version] = _packet(first, ipaddress.ip_address(_ban_base(version)) + BANS // 2)
        packets = Path(folder)
        costs.append(PacketCost(None, _NO_LOOKUP, _cost(program_id, _ARP, packets)))
        before = {version: _cost(program_id, clean[version], packets) for version in (4, 6)}
        expires_ns = time.monotonic_ns() + _BAN_NS
        for version in (4, 6):
            base = ipaddress.ip_address(_ban_base(version))
            for number in range(BANS):
                xdp.ban((base + number).packed, expires_ns)
        for version in (4, 6):
            figures = (
                before[version],
                _cost(program_id, clean[version], packets),
                _cost(program_id, banned[version], packets),
            )
            costs += [
                PacketCost(version, case, ns) for case, ns in zip(_CASES, figures, strict=True)
            ]
    return costs


def _ban_base(version: int) -> str:
    return "100.64.0.0" if version == 4 else "2001:db8:2::"


def _packet(
    destination: ipaddress.IPv4Address | ipaddress.IPv6Address,
    source: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> bytes:
    """The smallest Ethernet frame, 64 bytes, with UDP inside."""
    ends = source.packed + destination.packed
    if source.version == 4:
        header = b"\x08\x00" + struct.pack(">BBHIBBH", 0x45, 0, 50, 0, 64, 17, 0) + ends
    else:
        header = b"\x86\xdd" + struct.pack(">IHBB", 6 << 28, 10, 17, 64) + ends
    return (bytes(12) + header + struct.pack(">HHHH", 1000, 1000, 30, 0)).ljust(64, b"\0")


def _cost(program_id: int, packet: bytes, folder: Path) -> float:
    frame = folder / "packet"
    frame.write_bytes(packet)
    figures = []
    for _ in range(_RUNS):
        done = subprocess.run(
            [
                *("bpftool", "prog", "run", "id", str(program_id)),
                *("data_in", str(frame), "repeat", str(_REPEAT)),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        found = re.search(r"duration \(average\): (\d+)ns", done.stdout)
        if found is None:
            reason = (done.stderr or done.stdout).strip()
            raise UnavailableError(f"bpftool cannot run the XDP program: {reason}")
        figures.append(int(found[1]))
    return statistics.median(figures)


if __name__ == "__main__":
    try:
        measured = _measure(sys.argv[1])
    except (UnavailableError, LabError) as err:
        sys.exit(str(err))
    print(
        json.dumps(
            [{"ip_version": cost.ip_version, "case": cost.case, "ns": cost.ns} for cost in measured]
        )
    )
