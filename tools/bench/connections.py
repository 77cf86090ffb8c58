"""Short TCP connections through the router: each is opened, asked, answered and closed."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from rich.progress import Progress
from rich.table import Table

from tools.bench.consumers import accept_loop, btblocker, no_queue
from tools.bench.native import build
from tools.bench.options import Options
from tools.bench.processes import processor_s
from tools.bench.result import ratio, table
from tools.lab.program import LabError, Program
from tools.lab.topology import Topology

_PORT = 8080


@dataclass(slots=True)
class Connections:
    """Answered connections per second, a figure for each run, and all that failed."""

    through: str
    per_second: list[float]
    processor_us: list[float]
    """That the consumer's processes took for each connection."""
    failed: int


@dataclass(frozen=True, slots=True)
class ShortConnections:
    """Of consumers that took turns, plain forwarding first."""

    connections: list[Connections]

    def tables(self) -> Iterator[Table]:
        plain = self.connections[0]
        columns = ("median", "lowest", "highest", f"of {plain.through}", "its time", "failed")
        shown = table("Short TCP connections per second", "through", *columns)
        for each in self.connections:
            shown.add_row(
                each.through,
                f"{statistics.median(each.per_second):,.0f}",
                f"{min(each.per_second):,.0f}",
                f"{max(each.per_second):,.0f}",
                f"{ratio(each.per_second, plain.per_second):.2f}",
                f"{statistics.median(each.processor_us):.0f} µs" if any(each.processor_us) else "",
                str(each.failed),
            )
        yield shown


def measure(options: Options, progress: Progress) -> ShortConnections:
    """Consumers in turn, with offloads as a real router has them. Raises LabError."""
    consumers = {
        "plain forwarding": no_queue,
        "C accept loop": accept_loop,
        "btblocker": btblocker(),
    }
    connections = {name: Connections(name, [], [], 0) for name in consumers}
    task = progress.add_task("Short connections", total=options.runs * len(consumers))
    with Topology((4,)) as topology:
        server = topology.spawn(
            topology.server,
            [build("tcp_short", topology.folder), "serve", str(_PORT)],
            name="tcp_short",
        )
        server.wait_for(lambda: server.listens("tcp", _PORT), 5)
        for _ in range(options.runs):
            for name, consumer in consumers.items():
                with consumer(topology) as program:
                    _connect(topology, program, options, connections[name])
                progress.advance(task)
    return ShortConnections(list(connections.values()))


def _connect(
    topology: Topology, program: Program | None, options: Options, connections: Connections
) -> None:
    """Add the figures of one run."""
    before_s = processor_s(program.process.pid) if program else 0.0
    done = topology.client.run(
        [
            *(build("tcp_short", topology.folder), "connect", topology.server_address(4)),
            *(str(_PORT), str(options.seconds), str(options.concurrency)),
        ],
        timeout_s=options.seconds + 10,
    )
    answered, failed = map(int, done.stdout.split())
    if not answered:
        raise LabError("no connection was answered")
    took_s = processor_s(program.process.pid) - before_s if program else 0.0
    connections.processor_us.append(took_s / answered * 1e6)
    connections.per_second.append(answered / options.seconds)
    connections.failed += failed
