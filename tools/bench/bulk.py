"""One TCP bulk flow through the router: iperf3, with super-packets (GSO)."""

from __future__ import annotations

import json
import shutil
import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from rich.progress import Progress
from rich.table import Table

from engine.errors import UnavailableError
from tools.bench.consumers import ALL_INSPECTED, Consumer, btblocker, no_queue
from tools.bench.options import Options
from tools.bench.processes import processor_s
from tools.bench.result import ratio, table
from tools.lab.program import Program
from tools.lab.topology import Topology

_PORT = 5201


@dataclass(frozen=True, slots=True)
class Transfer:
    """Bits per second that arrived, a figure for each run."""

    through: str
    bits_per_second: list[float]
    processor_ms: list[float]
    """That the blocker's processes took for each gigabit."""


@dataclass(frozen=True, slots=True)
class Bulk:
    """Of consumers that took turns, plain forwarding first."""

    transfers: list[Transfer]

    def tables(self) -> Iterator[Table]:
        plain = self.transfers[0]
        columns = ("median", "lowest", "highest", f"of {plain.through}", "its time")
        shown = table("One TCP bulk flow", "through", *columns)
        for transfer in self.transfers:
            rates, took_ms = transfer.bits_per_second, transfer.processor_ms
            shown.add_row(
                transfer.through,
                f"{statistics.median(rates) / 1e9:.2f} Gbit/s",
                f"{min(rates) / 1e9:.2f} Gbit/s",
                f"{max(rates) / 1e9:.2f} Gbit/s",
                f"{ratio(rates, plain.bits_per_second):.2f}",
                f"{statistics.median(took_ms):.0f} ms/Gbit" if any(took_ms) else "",
            )
        yield shown


def measure(options: Options, progress: Progress) -> Bulk:
    """Consumers in turn. Raises UnavailableError without iperf3, LabError."""
    if shutil.which("iperf3") is None:
        raise UnavailableError("needs iperf3: run `make setup`")
    consumers: dict[str, Consumer] = {
        "plain forwarding": no_queue,
        "btblocker, every segment": btblocker(ALL_INSPECTED),
        "btblocker, with offload": btblocker(),
    }
    transfers = {name: Transfer(name, [], []) for name in consumers}
    task = progress.add_task("Bulk flow", total=options.runs * len(consumers))
    with Topology((4,)) as topology:
        server = topology.spawn(
            topology.server, ["iperf3", "--server", "--port", str(_PORT)], name="iperf3"
        )
        server.wait_for(lambda: server.listens("tcp", _PORT), 5)
        for _ in range(options.runs):
            for name, consumer in consumers.items():
                # Nothing is pinned: the two ends alone need more than one processor.
                with consumer(topology) as program:
                    _transfer(topology, program, options.seconds, transfers[name])
                progress.advance(task)
    return Bulk(list(transfers.values()))


def _transfer(
    topology: Topology, program: Program | None, seconds: int, transfer: Transfer
) -> None:
    """Send for some seconds, and add what the other side received."""
    before_s = processor_s(program.process.pid) if program else 0.0
    done = topology.client.run(
        [
            *("iperf3", "--client", topology.server_address(4), "--port", str(_PORT)),
            *("--time", str(seconds), "--json"),
        ],
        timeout_s=seconds + 30,
    )
    took_s = processor_s(program.process.pid) - before_s if program else 0.0
    received = json.loads(done.stdout)["end"]["sum_received"]
    transfer.bits_per_second.append(float(received["bits_per_second"]))
    transfer.processor_ms.append(took_s * 1e3 / (received["bytes"] * 8 / 1e9))
