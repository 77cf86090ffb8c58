"""`python -m tools.bench [queue] [latency] [xdp] [signatures]`: parses, measures, prints."""

from __future__ import annotations

import argparse
import dataclasses
import json
import operator
import os
import platform
import signal
import statistics
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from engine.errors import BtblockerError, InputError, UnavailableError
from tools.bench import xdp as xdp_bench
from tools.bench.consumers import Consumer, accept_loop, btblocker, btblocker_with, no_queue
from tools.bench.measure import Rates, RoundTrips, round_trips, throughput
from tools.bench.native import build
from tools.bench.signatures import SIGNATURES, STEPS, CleanCost, Loading, measure, write_signatures
from tools.lab.topology import Topology

PARTS = ("queue", "latency", "xdp", "signatures")
PACKET_SIZES_B = (200, 1000)
C_LOOP, BTBLOCKER, NO_QUEUE = "C accept loop", "btblocker", "no queue"
SHIPPED = "shipped signatures"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        options = _parser().parse_args(arguments)
        results = _measure(options)
    except BtblockerError as err:
        print(f"bench: {err}", file=sys.stderr)
        return err.exit_code
    except KeyboardInterrupt:
        return 130
    if options.json:
        print(json.dumps(results.as_json(), indent=2))
    else:
        results.print()
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see bench --help)")


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"not a whole number above 0: {text!r}")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="bench", description="Measure btblocker on this machine.")
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)"
    )
    parser.add_argument("--runs", type=_count, default=5, help="of each figure (%(default)s)")
    parser.add_argument("--seconds", type=_count, default=3, help="a run lasts (%(default)s)")
    parser.add_argument("--flows", type=_count, default=64, help="in the UDP blast (%(default)s)")
    parser.add_argument("--pings", type=_count, default=2000, help="in a run (%(default)s)")
    parser.add_argument(
        "--signatures", type=_count, default=SIGNATURES, help="generated ones (%(default)s)"
    )
    parser.add_argument(
        "--baseline", action="store_true", help="leave btblocker out: the limits alone"
    )
    parser.add_argument("--json", action="store_true", help="figures of every run, as JSON")
    return parser


@dataclasses.dataclass(frozen=True, slots=True)
class _Results:
    rates: list[list[Rates]] = dataclasses.field(default_factory=list)
    """Of consumers that took turns, the one to compare with first."""
    round_trips: list[RoundTrips] = dataclasses.field(default_factory=list)
    xdp: list[xdp_bench.PacketCost] = dataclasses.field(default_factory=list)
    loadings: list[Loading] = dataclasses.field(default_factory=list)
    clean_costs: list[CleanCost] = dataclasses.field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {
            "kernel": platform.release(),
            "processors": os.cpu_count(),
            **dataclasses.asdict(self),
        }

    def print(self) -> None:
        console = Console(highlight=False)
        for rates in self.rates:
            console.print(_rate_table(rates))
        if self.round_trips:
            console.print(_round_trip_table(self.round_trips))
        if self.xdp:
            console.print(_xdp_table(self.xdp))
        if self.loadings:
            console.print(_loading_table(self.loadings))
            console.print(_clean_cost_table(self.clean_costs))


def _measure(options: argparse.Namespace) -> _Results:
    for part in options.parts:
        if part not in PARTS:
            raise InputError(f"no such part: {part!r} (there are {', '.join(PARTS)})")
    parts = set(options.parts or PARTS)
    if options.baseline:
        parts -= {"xdp", "signatures"}
    results = _Results()
    if parts & {"queue", "latency"}:
        results = _measure_traffic(options, parts)
    if "xdp" in parts:
        with _progress() as progress:
            task = progress.add_task("XDP", total=options.runs)
            costs = xdp_bench.packet_costs(options.runs, lambda: progress.advance(task))
        results = dataclasses.replace(results, xdp=costs)
    if "signatures" in parts:
        with _progress() as progress:
            task = progress.add_task("Signatures", total=STEPS)
            loadings, clean_costs = measure(
                options.signatures, options.runs, lambda: progress.advance(task)
            )
        results = dataclasses.replace(results, loadings=loadings, clean_costs=clean_costs)
    return results


def _progress() -> Progress:
    return Progress(console=Console(stderr=True), disable=not sys.stderr.isatty())


def _measure_traffic(options: argparse.Namespace, parts: set[str]) -> _Results:
    """What takes packets in network namespaces."""
    if os.geteuid() != 0:
        raise UnavailableError("making network namespaces needs root: try sudo")
    if len(os.sched_getaffinity(0)) < 2:
        raise UnavailableError("needs two processors: one sends, the other consumes")
    consumers: dict[str, Consumer] = {C_LOOP: accept_loop}
    if not options.baseline:
        consumers[BTBLOCKER] = btblocker

    trips: list[RoundTrips] = []
    rates: list[list[Rates]] = []
    with (
        Topology((4,), offloads=False) as topology,
        _progress() as progress,
    ):
        programs = build(topology.folder)
        contests = [consumers] if "queue" in parts else []
        if {"queue", "signatures"} <= parts:
            many = topology.folder / "signatures"
            many.mkdir()
            write_signatures(many, options.signatures)
            title = f"{options.signatures:,} signatures"
            contests.append({SHIPPED: btblocker, title: btblocker_with(many)})
        for contest in contests:
            steps = options.runs * len(PACKET_SIZES_B) * len(contest)
            task = progress.add_task("Packets per second", total=steps)
            measured = throughput(
                topology,
                programs,
                contest,
                packet_sizes_b=PACKET_SIZES_B,
                flows=options.flows,
                runs=options.runs,
                run_s=options.seconds,
                advance=lambda task=task: progress.advance(task),
            )
            rates.append(measured)
        if "latency" in parts:
            all_three = {NO_QUEUE: no_queue, **consumers}
            pinging = progress.add_task("Round trips", total=options.runs * len(all_three))
            trips = round_trips(
                topology,
                programs,
                all_three,
                runs=options.runs,
                pings=options.pings,
                advance=lambda: progress.advance(pinging),
            )
    return _Results(rates, trips)


def _rate_table(rates: Sequence[Rates]) -> Table:
    """Rates beside those of the first consumer."""
    limit = rates[0].consumer
    table = Table(title="Packets per second through the queue", title_justify="left")
    table.add_column("consumer")
    for column in ("packet", "median", "lowest", "highest", f"of {limit}", "sent in vain"):
        table.add_column(column, justify="right")
    limits = {rate.packet_b: rate.per_second for rate in rates if rate.consumer == limit}
    for rate in rates:
        # Run by run: neighbours in time share the machine's mood.
        of_limit = map(operator.truediv, rate.per_second, limits[rate.packet_b])
        table.add_row(
            rate.consumer,
            f"{rate.packet_b} B",
            f"{rate.median:,.0f}",
            f"{min(rate.per_second):,.0f}",
            f"{max(rate.per_second):,.0f}",
            f"{statistics.median(of_limit):.2f}",
            f"{statistics.median(rate.lost_share):.0%}",
        )
    return table


def _round_trip_table(trips: Sequence[RoundTrips]) -> Table:
    table = Table(title="Round trip of a 200-byte packet at low load", title_justify="left")
    table.add_column("through")
    for column in ("p50", "p99", "added p50", "added p99", "lost"):
        table.add_column(column, justify="right")
    bare = next(trip for trip in trips if trip.consumer == NO_QUEUE)
    base = statistics.median(bare.p50_us), statistics.median(bare.p99_us)
    for trip in trips:
        p50, p99 = statistics.median(trip.p50_us), statistics.median(trip.p99_us)
        added = (
            ("", "") if trip is bare else (f"{p50 - base[0]:+.0f} µs", f"{p99 - base[1]:+.0f} µs")
        )
        table.add_row(trip.consumer, f"{p50:.0f} µs", f"{p99:.0f} µs", *added, str(trip.lost))
    return table


def _xdp_table(costs: Sequence[xdp_bench.PacketCost]) -> Table:
    by_packet: dict[tuple[int | None, str], dict[str, xdp_bench.PacketCost]] = {}
    for cost in costs:
        by_packet.setdefault((cost.ip_version, cost.case), {})[cost.program] = cost
    empty = statistics.median(cost.ns for cost in costs if cost.program == xdp_bench.EMPTY)
    table = Table(
        title=f"XDP with {xdp_bench.BANS:,} bans, one packet (an empty program: {empty:.0f} ns)",
        title_justify="left",
    )
    columns = xdp_bench.PEER, xdp_bench.BTBLOCKER, xdp_bench.SIGNATURES
    table.add_column("packet")
    for column in ("IP", *columns[:2], "ratio", columns[2], "added"):
        table.add_column(column, justify="right")
    for (version, case), of in by_packet.items():
        peer, ours, full = (of[program] for program in columns)
        table.add_row(
            case,
            "" if version is None else f"v{version}",
            *(f"{cost.ns:.0f} ns" for cost in (peer, ours)),
            f"{statistics.median(map(operator.truediv, ours.runs_ns, peer.runs_ns)):.2f}",
            f"{full.ns:.0f} ns",
            f"{statistics.median(map(operator.sub, full.runs_ns, ours.runs_ns)):+.0f} ns",
        )
    return table


def _loading_table(loadings: Sequence[Loading]) -> Table:
    table = Table(title="Loading signatures", title_justify="left")
    for column in ("signatures", "load", "own tests", "databases", "memory", "need Python"):
        table.add_column(column, justify="right")
    for loading in loadings:
        table.add_row(
            f"{loading.signatures:,}",
            f"{loading.load_s:.2f} s",
            f"{loading.self_test_s:.2f} s",
            f"{loading.databases_b / 1e6:.1f} MB",
            f"{loading.resident_b / 1e6:.0f} MB",
            f"{loading.need_python:,}",
        )
    return table


def _clean_cost_table(costs: Sequence[CleanCost]) -> Table:
    table = Table(title="Inspecting a packet that nothing matches", title_justify="left")
    table.add_column("transport")
    for column in ("payload", "shipped set", "many signatures", "added", "ratio"):
        table.add_column(column, justify="right")
    for cost in costs:
        shipped, many = statistics.median(cost.shipped_ns), statistics.median(cost.many_ns)
        table.add_row(
            cost.transport,
            f"{cost.payload_b} B",
            f"{shipped:.0f} ns",
            f"{many:.0f} ns",
            f"{many - shipped:+.0f} ns",
            f"{cost.ratio:.2f}",
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
