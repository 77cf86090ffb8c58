"""What XDP programs cost a packet, by the kernel's own test run.

BPF_PROG_TEST_RUN calls a program on the same packet again and again and returns the average,
without the driver around it.
"""

from __future__ import annotations

import ipaddress
import operator
import os
import statistics
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from rich.progress import Progress
from rich.table import Table

from engine.enforce.bpf import BlockerProgram
from engine.enforce.networks import NO_HOST
from engine.enforce.program import build_program
from engine.language.document import Signature
from engine.paths import shipped_signatures
from engine.signatures import load
from tools.bench.kernel_run import DROP, PASS, kernel_run, load_empty_program, open_program
from tools.bench.options import Options
from tools.bench.result import ratio, table
from tools.bench.xdp_filter import xdp_filter

BANS = 100_000
EMPTY, BTBLOCKER, SIGNATURES, PEER = "empty", "btblocker", "with signatures", "xdp-filter"

_FUNCTION = "btblocker_eth"
_REPEAT = 1_000_000
_BAN_NS = 3600 * 10**9
_INNOCENT = {4: "203.0.113.0", 6: "2001:db8:1::"}
_FIRST_BANNED = {4: "100.64.0.0", 6: "2001:db8:2::"}
_PAYLOAD_B = 200
_SYN, _PUSH_ACK = 0x02, 0x18  # TCP flags, RFC 9293


@dataclass(frozen=True, slots=True)
class PacketCost:
    """Nanoseconds that a program takes for a packet: of each run, and their median."""

    program: str
    ip_version: int | None
    """None for what is not IP: the price of a program without a look-up."""
    case: str
    runs_ns: list[int]
    ns: float


@dataclass(frozen=True, slots=True)
class _Case:
    ip_version: int | None
    name: str
    frame: bytes
    action: int = PASS


@dataclass(frozen=True, slots=True)
class Xdp:
    """Every program with every packet."""

    costs: list[PacketCost]

    def tables(self) -> Iterator[Table]:
        by_packet: dict[tuple[int | None, str], dict[str, PacketCost]] = {}
        for cost in self.costs:
            by_packet.setdefault((cost.ip_version, cost.case), {})[cost.program] = cost
        empty = statistics.median(cost.ns for cost in self.costs if cost.program == EMPTY)
        shown = table(
            f"XDP with {BANS:,} bans, one packet (an empty program: {empty:.0f} ns)",
            *("packet", "IP", PEER, BTBLOCKER, "ratio", SIGNATURES, "added"),
        )
        for (version, case), of in by_packet.items():
            peer, ours, full = of[PEER], of[BTBLOCKER], of[SIGNATURES]
            added = statistics.median(map(operator.sub, full.runs_ns, ours.runs_ns))
            shown.add_row(
                case,
                "" if version is None else f"v{version}",
                f"{peer.ns:.0f} ns",
                f"{ours.ns:.0f} ns",
                f"{ratio(ours.runs_ns, peer.runs_ns):.2f}",
                f"{full.ns:.0f} ns",
                f"{added:+.0f} ns",
            )
        yield shown


def measure(options: Options, progress: Progress) -> Xdp:
    """Programs take turns within a run. Raises UnavailableError with the reason if that fails."""
    task = progress.add_task("XDP", total=options.runs)
    measured: dict[tuple[str, _Case], list[int]] = {}
    with ExitStack() as held:
        programs = {
            EMPTY: held.enter_context(_closing(load_empty_program())),
            BTBLOCKER: held.enter_context(_blocker([])),
            SIGNATURES: held.enter_context(_blocker(load(shipped_signatures()).signatures)),
            PEER: held.enter_context(xdp_filter(_banned(4) + _banned(6))),
        }
        for _ in range(options.runs):
            for case in _cases():
                for program, fd in programs.items():
                    done = kernel_run(fd, case.frame, _REPEAT)
                    if program != EMPTY and done.action != case.action:
                        raise AssertionError(f"{program} gives {case} {done.action}")
                    measured.setdefault((program, case), []).append(done.ns)
            progress.advance(task)
    return Xdp(
        [
            PacketCost(program, case.ip_version, case.name, ns, statistics.median(ns))
            for (program, case), ns in measured.items()
        ]
    )


def _cases() -> Iterator[_Case]:
    yield _Case(None, "not IP", (bytes(12) + b"\x08\x06").ljust(64, b"\0"))
    payload = bytes(range(1, _PAYLOAD_B + 1))
    for version in (4, 6):
        source = ipaddress.ip_address(_INNOCENT[version])
        banned = ipaddress.ip_address(_FIRST_BANNED[version]) + BANS // 2
        yield _Case(version, "innocent, 64 B", _frame(source, _udp(bytes(10))))
        yield _Case(version, "innocent UDP payload", _frame(source, _udp(payload)))
        yield _Case(version, "innocent TCP payload", _frame(source, _tcp(payload, _PUSH_ACK)))
        yield _Case(version, "innocent SYN", _frame(source, _tcp(b"", _SYN)))
        yield _Case(version, "banned", _frame(banned, _udp(bytes(10))), DROP)


def _udp(payload: bytes) -> tuple[int, bytes]:
    return 17, struct.pack(">HHHH", 1000, 1000, 8 + len(payload), 0) + payload


def _tcp(payload: bytes, flags: int) -> tuple[int, bytes]:
    return 6, struct.pack(">HHIIBBHHH", 1000, 1000, 1, 1, 0x50, flags, 1000, 0, 0) + payload


def _frame(
    source: ipaddress.IPv4Address | ipaddress.IPv6Address, inside: tuple[int, bytes]
) -> bytes:
    """An Ethernet frame around a protocol's number and body; checksums stay 0."""
    protocol, body = inside
    ends = source.packed + (ipaddress.ip_address(_INNOCENT[source.version]) + 1).packed
    if source.version == 4:
        length = 20 + len(body)
        header = b"\x08\x00" + struct.pack(">BBHIBBH", 0x45, 0, length, 0, 64, protocol, 0) + ends
    else:
        header = b"\x86\xdd" + struct.pack(">IHBB", 6 << 28, len(body), protocol, 64) + ends
    return (bytes(12) + header + body).ljust(64, b"\0")


def _banned(version: int) -> list[bytes]:
    first = ipaddress.ip_address(_FIRST_BANNED[version])
    return [(first + number).packed for number in range(BANS)]


@contextmanager
def _blocker(signatures: tuple[Signature, ...] | list[Signature]) -> Iterator[int]:
    """Ours, with the signatures that it can decide, and the bans."""
    program, _ = build_program(signatures)
    blocker = BlockerProgram(program.bytecode)
    try:
        blocker.set_ban_duration(_BAN_NS)
        for network in NO_HOST:
            blocker.allow(network)
        expires_ns = time.monotonic_ns() + _BAN_NS
        for address in _banned(4) + _banned(6):
            blocker.put(address, expires_ns)
        with _closing(open_program(blocker.program_id(_FUNCTION))) as fd:
            yield fd
    finally:
        blocker.close()


@contextmanager
def _closing(fd: int) -> Iterator[int]:
    try:
        yield fd
    finally:
        os.close(fd)
