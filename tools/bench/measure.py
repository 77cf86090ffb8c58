"""Packets per second through the queue, and the round trip through it."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tools.bench.consumers import Consumer, pin, queue_counters
from tools.bench.native import Programs
from tools.lab.program import LabError, Program
from tools.lab.topology import HOST_INTERFACE, LAN_INTERFACE, Topology

# One core makes the packets and carries them to the queue, the other consumes them.
SENDER_CORE = 0
CONSUMER_CORE = 1

_FIRST_PORT = 20000
_ECHO_PORT = 7000
_WARM_UP_S = 0.5
_PING_INTERVAL_US = 500

Progress = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Rates:
    """Packets per second of one consumer at one packet size, a figure for each run."""

    consumer: str
    packet_b: int
    per_second: list[float]
    lost_share: list[float]
    """Of the packets sent; the sender is meant to be faster than the consumer."""

    @property
    def median(self) -> float:
        return statistics.median(self.per_second)


@dataclass(frozen=True, slots=True)
class RoundTrips:
    """Round trips with one consumer: a median and a 99th percentile for each run."""

    consumer: str
    p50_us: list[float]
    p99_us: list[float]
    lost: int


def throughput(
    topology: Topology,
    programs: Programs,
    consumers: Mapping[str, Consumer],
    *,
    packet_sizes_b: Sequence[int],
    flows: int,
    runs: int,
    run_s: int,
    advance: Progress,
) -> list[Rates]:
    """Blast UDP through the router, consumers in turn."""
    # A closed port would answer each packet by ICMP.
    topology.server.run(
        ["iptables", "-w", "-t", "raw", "-A", "PREROUTING", "-p", "udp", "-j", "DROP"]
    )
    table = {
        (name, size_b): Rates(name, size_b, [], [])
        for size_b in packet_sizes_b
        for name in consumers
    }
    for _ in range(runs):
        for name, consumer in consumers.items():
            with consumer(topology, programs) as program:
                if program is None:
                    raise ValueError(f"{name} consumes nothing")
                pin(program, CONSUMER_CORE)
                for size_b in packet_sizes_b:
                    rate, lost = _blast(topology, programs, program, size_b, flows, run_s)
                    table[name, size_b].per_second.append(rate)
                    table[name, size_b].lost_share.append(lost)
                    advance()
    topology.server.run(
        ["iptables", "-w", "-t", "raw", "-D", "PREROUTING", "-p", "udp", "-j", "DROP"]
    )
    return list(table.values())


def _blast(
    topology: Topology,
    programs: Programs,
    consumer: Program,
    packet_b: int,
    flows: int,
    run_s: int,
) -> tuple[float, float]:
    """Packets consumed per second, and the share that was lost in front of the consumer."""
    sender = topology.spawn(
        topology.client,
        [
            *("taskset", "--cpu-list", str(SENDER_CORE), programs.udp_blast),
            *(HOST_INTERFACE, _next_hop(topology)),
            *(topology.client_address(4), topology.server_address(4)),
            *(str(_FIRST_PORT), str(flows), str(packet_b), str(run_s + 2 * _WARM_UP_S)),
        ],
        name="udp_blast",
    )
    time.sleep(_WARM_UP_S)
    before, start_s = queue_counters(consumer), time.monotonic()
    time.sleep(run_s)
    after, end_s = queue_counters(consumer), time.monotonic()
    if sender.process.wait(run_s + 10) != 0:
        sender.require_alive()
    consumed = after.consumed - before.consumed
    if consumed <= 0:
        raise LabError("bench: no packet went through the queue")
    lost = after.lost - before.lost
    _drained(consumer)
    return consumed / (end_s - start_s), lost / (consumed + lost)


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


def round_trips(
    topology: Topology,
    programs: Programs,
    consumers: Mapping[str, Consumer],
    *,
    runs: int,
    pings: int,
    advance: Progress,
) -> list[RoundTrips]:
    """Send single packets to an echo server behind the router, consumers in turn."""
    echo = topology.spawn(
        topology.server, [programs.udp_echo, "serve", str(_ECHO_PORT)], name="udp_echo"
    )
    echo.wait_for(lambda: echo.listens("udp", _ECHO_PORT), 5)
    pin(echo, SENDER_CORE)
    table = {name: RoundTrips(name, [], [], 0) for name in consumers}
    for _ in range(runs):
        for name, consumer in consumers.items():
            with consumer(topology, programs) as program:
                if program is not None:
                    pin(program, CONSUMER_CORE)
                took_us, lost = _ping(topology, programs, pings)
            row = table[name]
            row.p50_us.append(statistics.median(took_us))
            row.p99_us.append(statistics.quantiles(took_us, n=100)[98])
            table[name] = RoundTrips(name, row.p50_us, row.p99_us, row.lost + lost)
            advance()
    echo.stop()
    return list(table.values())


def _ping(topology: Topology, programs: Programs, pings: int) -> tuple[list[float], int]:
    done = topology.client.run(
        [
            *("taskset", "--cpu-list", str(SENDER_CORE), programs.udp_echo, "ping"),
            *(topology.server_address(4), str(_ECHO_PORT), str(pings), str(_PING_INTERVAL_US)),
        ],
        timeout_s=60,
    )
    answers = done.stdout.split()
    took_us = [int(answer) / 1000 for answer in answers if answer != "lost"]
    if len(took_us) < pings / 2:
        raise LabError(f"bench: {pings - len(took_us)} of {pings} echoes are lost")
    return took_us, answers.count("lost")
