"""How long it takes from the first telling packet of an address until the driver drops it."""

from __future__ import annotations

import ctypes as ct
import json
import os
import socket
import statistics
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from rich.progress import Progress
from rich.table import Table

from engine.enforce.libbpf import check, libbpf
from engine.errors import InputError
from tools.bench.options import Options
from tools.bench.processes import CONSUMER_CORE, SENDER_CORE, pin, require_two_processors
from tools.bench.result import table
from tools.lab.blocker import run_blocker
from tools.lab.namespace import call_in
from tools.lab.program import LabError, Program
from tools.lab.topology import HOST_INTERFACE, LAN_INTERFACE, Topology

TARGET_US = 1000.0

_MAP = "blocked_ips"
_BAN_B = 24  # struct ban of bpf/blocker.bpf.c
# Benchmarking's own network (RFC 2544), behind the client.
_SOURCES = "198.18.0.0/15"
_FIRST_SOURCE = IPv4Address("198.18.0.1")
_MAX_SOURCES = 100_000
_PATIENCE_S = 1.0
_PAUSE_S = 0.001
# A request to a UDP tracker (BEP 15): its magic, action 0, a transaction.
_TELLING = bytes.fromhex("0000041727101980") + bytes(4) + b"benc"


@dataclass(frozen=True, slots=True)
class Delays:
    """Microseconds from just before the send to the address's first sight in the map."""

    p50_us: list[float]
    p99_us: list[float]
    highest_us: list[float]


@dataclass(frozen=True, slots=True)
class Bans:
    """Delays of each run, and what they should stay below."""

    delays: Delays
    addresses: int
    """In each run."""
    target_us: float

    def tables(self) -> Iterator[Table]:
        shown = table(
            f"From the first telling packet to the ban, {self.addresses:,} addresses a run",
            *("", "p50", "p99", "highest", "p99 of the target"),
        )
        delays = self.delays
        p99 = statistics.median(delays.p99_us)
        shown.add_row(
            "btblocker",
            *(f"{us:,.0f} µs" for us in (statistics.median(delays.p50_us), p99)),
            f"{max(delays.highest_us):,.0f} µs",
            f"{p99 / self.target_us:.2f}",
        )
        yield shown


def measure(options: Options, progress: Progress) -> Bans:
    """Each source sends one packet. Raises InputError, UnavailableError, LabError."""
    require_two_processors()
    if options.runs * options.bans > _MAX_SOURCES:
        raise InputError(f"--runs times --bans is more than {_MAX_SOURCES:,}")
    task = progress.add_task("Bans", total=options.runs)
    delays = Delays([], [], [])
    with Topology((4,)) as topology:
        via = topology.client_address(4)
        topology.router.run(["ip", "route", "add", _SOURCES, "via", via, "dev", LAN_INTERFACE])
        with run_blocker(topology) as blocker:
            pin(blocker.program.process.pid, CONSUMER_CORE)
            with _ban_map(blocker.program) as map_fd, _sender(topology) as sender, _pinned():
                for run in range(options.runs):
                    first = _FIRST_SOURCE + run * options.bans
                    sources = [(first + number).packed for number in range(options.bans)]
                    took_us = sorted(_delay_us(sender, topology, map_fd, each) for each in sources)
                    delays.p50_us.append(statistics.median(took_us))
                    delays.p99_us.append(took_us[max(0, len(took_us) * 99 // 100 - 1)])
                    delays.highest_us.append(took_us[-1])
                    progress.advance(task)
    return Bans(delays, options.bans, TARGET_US)


def _delay_us(sender: socket.socket, topology: Topology, map_fd: int, source: bytes) -> float:
    look_up = libbpf().bpf_map_lookup_elem
    ban = ct.create_string_buffer(_BAN_B)
    datagram = _datagram(source, IPv4Address(topology.server_address(4)).packed)
    time.sleep(_PAUSE_S)
    start_ns = time.monotonic_ns()
    sender.send(datagram)
    while look_up(map_fd, source, ban):
        if time.monotonic_ns() - start_ns > _PATIENCE_S * 1e9:
            raise LabError(f"{IPv4Address(source)} was not banned within {_PATIENCE_S:.0f} s")
    return (time.monotonic_ns() - start_ns) / 1e3


def _datagram(source: bytes, destination: bytes) -> bytes:
    udp = struct.pack(">HHHH", 40000, 6969, 8 + len(_TELLING), 0) + _TELLING
    head = struct.pack(">BBHIBBH", 0x45, 0, 20 + len(udp), 0, 64, 17, 0)
    # The kernel fills in the checksum of what it is given whole (raw(7)).
    return head + source + destination + udp


@contextmanager
def _sender(topology: Topology) -> Iterator[socket.socket]:
    """A socket in the client's namespace that takes whole IP datagrams."""
    with call_in(
        topology.client.name,
        lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW),
    ) as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, HOST_INTERFACE.encode())
        made.connect((topology.server_address(4), 0))
        yield made


@contextmanager
def _pinned() -> Iterator[None]:
    """Keep this process away from the blocker's core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {SENDER_CORE})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def _ban_map(program: Program) -> Iterator[int]:
    """The map of banned IPv4 addresses that a blocker holds open: its file descriptor here."""
    held = {
        int(line.split()[1])
        for facts in Path(f"/proc/{program.process.pid}/fdinfo").iterdir()
        for line in facts.read_text().splitlines()
        if line.startswith("map_id:")
    }
    listed = subprocess.run(
        ["bpftool", "--json", "map", "list"], capture_output=True, check=True
    ).stdout
    for each in json.loads(listed):
        if each["id"] in held and each.get("name") == _MAP:
            fd = check(libbpf().bpf_map_get_fd_by_id(each["id"]))
            try:
                yield fd
            finally:
                os.close(fd)
            return
    raise LabError(f"the blocker has no map {_MAP}")
