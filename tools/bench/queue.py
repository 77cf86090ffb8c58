"""Packets per second through the queue."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rich.progress import Progress
from rich.table import Table

from tools.bench.consumers import ALL_INSPECTED, Consumer, accept_loop, btblocker, queue_counters
from tools.bench.many_signatures import write_signatures
from tools.bench.native import build
from tools.bench.options import Options
from tools.bench.processes import (
    CONSUMER_CORE,
    SENDER_CORE,
    family,
    memory,
    pin,
    require_two_processors,
)
from tools.bench.result import ratio, table
from tools.lab.program import LabError, Program
from tools.lab.topology import HOST_INTERFACE, LAN_INTERFACE, Topology

PACKET_SIZES_B = (200, 1000)

_FIRST_PORT = 20000
_WARM_UP_S = 0.5


@dataclass(frozen=True, slots=True)
class Rates:
    """Packets per second of one consumer at one packet size, a figure for each run."""

    consumer: str
    packet_b: int
    per_second: list[float]
    lost_share: list[float]
    """Of the packets sent; the sender is meant to be faster than the consumer."""
    peak_b: list[int]
    """The most memory that the consumer's processes have had resident, in sum."""


@dataclass(frozen=True, slots=True)
class Throughput:
    """Of consumers that took turns, the one to compare with first."""

    rates: list[Rates]

    def tables(self) -> Iterator[Table]:
        limit = self.rates[0].consumer
        columns = ("packet", "median", "lowest", "highest", f"of {limit}", "sent in vain", "memory")
        shown = table("Packets per second through the queue", "consumer", *columns)
        limits = {rate.packet_b: rate.per_second for rate in self.rates if rate.consumer == limit}
        for rate in self.rates:
            shown.add_row(
                rate.consumer,
                f"{rate.packet_b} B",
                f"{statistics.median(rate.per_second):,.0f}",
                f"{min(rate.per_second):,.0f}",
                f"{max(rate.per_second):,.0f}",
                f"{ratio(rate.per_second, limits[rate.packet_b]):.2f}",
                f"{statistics.median(rate.lost_share):.0%}",
                f"{max(rate.peak_b) / 1e6:.0f} MB",
            )
        yield shown


def measure(options: Options, progress: Progress) -> Throughput:
    """Of the C loop and btblocker. Raises UnavailableError, LabError."""
    with Topology((4,), offloads=False) as topology:
        consumers = {"C accept loop": accept_loop, "btblocker": btblocker(ALL_INSPECTED)}
        return _take_turns(topology, consumers, options, progress)


def measure_many_signatures(options: Options, progress: Progress) -> Throughput:
    """Of btblocker with the shipped signatures and with generated ones."""
    with Topology((4,), offloads=False) as topology:
        many = topology.folder / "signatures"
        many.mkdir()
        write_signatures(many, options.signatures)
        consumers = {
            "shipped signatures": btblocker(ALL_INSPECTED),
            f"{options.signatures:,} signatures": btblocker(
                ALL_INSPECTED, "--signatures", str(many)
            ),
        }
        return _take_turns(topology, consumers, options, progress)


def _take_turns(
    topology: Topology, consumers: Mapping[str, Consumer], options: Options, progress: Progress
) -> Throughput:
    """Blast UDP through the router."""
    require_two_processors()
    steps = options.runs * len(PACKET_SIZES_B) * len(consumers)
    task = progress.add_task("Packets per second", total=steps)
    # A closed port would answer each packet by ICMP.
    topology.server.run(
        ["iptables", "-w", "-t", "raw", "-A", "PREROUTING", "-p", "udp", "-j", "DROP"]
    )
    rates = {
        (name, size_b): Rates(name, size_b, [], [], [])
        for size_b in PACKET_SIZES_B
        for name in consumers
    }
    for _ in range(options.runs):
        for name, consumer in consumers.items():
            with consumer(topology) as program:
                if program is None:
                    raise ValueError(f"{name} consumes nothing")
                pin(program.process.pid, CONSUMER_CORE)
                for size_b in PACKET_SIZES_B:
                    _blast(topology, program, rates[name, size_b], options)
                    progress.advance(task)
    return Throughput(list(rates.values()))


def _blast(topology: Topology, consumer: Program, rates: Rates, options: Options) -> None:
    """Add the figures of one run."""
    sender = topology.spawn(
        topology.client,
        [
            *("taskset", "--cpu-list", str(SENDER_CORE), build("udp_blast", topology.folder)),
            *(HOST_INTERFACE, _next_hop(topology)),
            *(topology.client_address(4), topology.server_address(4)),
            *(str(_FIRST_PORT), str(options.flows), str(rates.packet_b)),
            str(options.seconds + 2 * _WARM_UP_S),
        ],
        name="udp_blast",
    )
    time.sleep(_WARM_UP_S)
    before, start_s = queue_counters(consumer), time.monotonic()
    time.sleep(options.seconds)
    after, end_s = queue_counters(consumer), time.monotonic()
    if sender.process.wait(options.seconds + 10) != 0:
        sender.require_alive()
    consumed = after.consumed - before.consumed
    if consumed <= 0:
        raise LabError("no packet went through the queue")
    lost = after.lost - before.lost
    _drained(consumer)
    rates.per_second.append(consumed / (end_s - start_s))
    rates.lost_share.append(lost / (consumed + lost))
    rates.peak_b.append(sum(memory(pid).peak_b for pid in family(consumer.process.pid)))


def _next_hop(topology: Topology) -> str:
    """The MAC address that the router has towards the client."""
    shown = topology.router.run(["ip", "-json", "link", "show", "dev", LAN_INTERFACE]).stdout
    return str(json.loads(shown)[0]["address"])


def _drained(consumer: Program) -> None:
    """Wait until a second look finds nothing new consumed."""
    last = -1
    while (now := queue_counters(consumer).consumed) != last:
        last = now
        time.sleep(0.05)
