"""The round trip through the queue, at low load."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from rich.progress import Progress
from rich.table import Table

from tools.bench.consumers import ALL_INSPECTED, accept_loop, btblocker, no_queue
from tools.bench.native import build
from tools.bench.options import Options
from tools.bench.processes import CONSUMER_CORE, SENDER_CORE, pin, require_two_processors
from tools.bench.result import table
from tools.lab.program import LabError
from tools.lab.topology import Topology

_ECHO_PORT = 7000
_PING_INTERVAL_US = 500


@dataclass(slots=True)
class RoundTrips:
    """Round trips with one consumer: a median and a 99th percentile for each run."""

    consumer: str
    p50_us: list[float]
    p99_us: list[float]
    lost: int


@dataclass(frozen=True, slots=True)
class Latency:
    """Of consumers that took turns, that without a queue first."""

    round_trips: list[RoundTrips]

    def tables(self) -> Iterator[Table]:
        columns = ("p50", "p99", "added p50", "added p99", "lost")
        shown = table("Round trip of a 200-byte packet at low load", "through", *columns)
        bare = self.round_trips[0]
        base = statistics.median(bare.p50_us), statistics.median(bare.p99_us)
        for trip in self.round_trips:
            found = statistics.median(trip.p50_us), statistics.median(trip.p99_us)
            added = [
                "" if trip is bare else f"{us - base_us:+.0f} µs"
                for us, base_us in zip(found, base, strict=True)
            ]
            shown.add_row(trip.consumer, *(f"{us:.0f} µs" for us in found), *added, str(trip.lost))
        yield shown


def measure(options: Options, progress: Progress) -> Latency:
    """Send single packets to an echo server behind the router, consumers in turn."""
    require_two_processors()
    consumers = {
        "no queue": no_queue,
        "C accept loop": accept_loop,
        "btblocker": btblocker(ALL_INSPECTED),
    }
    task = progress.add_task("Round trips", total=options.runs * len(consumers))
    trips = {name: RoundTrips(name, [], [], 0) for name in consumers}
    with Topology((4,), offloads=False) as topology:
        echo = topology.spawn(
            topology.server,
            [build("udp_echo", topology.folder), "serve", str(_ECHO_PORT)],
            name="udp_echo",
        )
        echo.wait_for(lambda: echo.listens("udp", _ECHO_PORT), 5)
        pin(echo.process.pid, SENDER_CORE)
        for _ in range(options.runs):
            for name, consumer in consumers.items():
                with consumer(topology) as program:
                    if program is not None:
                        pin(program.process.pid, CONSUMER_CORE)
                    _ping(topology, options.pings, trips[name])
                progress.advance(task)
    return Latency(list(trips.values()))


def _ping(topology: Topology, pings: int, trips: RoundTrips) -> None:
    """Add the figures of one run."""
    done = topology.client.run(
        [
            *("taskset", "--cpu-list", str(SENDER_CORE)),
            *(build("udp_echo", topology.folder), "ping"),
            *(topology.server_address(4), str(_ECHO_PORT), str(pings), str(_PING_INTERVAL_US)),
        ],
        timeout_s=60,
    )
    answers = done.stdout.split()
    took_us = [int(answer) / 1000 for answer in answers if answer != "lost"]
    if len(took_us) < pings / 2:
        raise LabError(f"{pings - len(took_us)} of {pings} echoes are lost")
    trips.p50_us.append(statistics.median(took_us))
    trips.p99_us.append(statistics.quantiles(took_us, n=100)[98])
    trips.lost += answers.count("lost")
