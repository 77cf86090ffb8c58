"""btblocker in the router's namespace, and what it says of its work."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.lab.program import LabError, Program
from tools.lab.topology import Topology

QUEUE_NUMBER = 0
_READY_LINE = "btblocker is ready"
_READY_TIMEOUT_S = 90.0
_REPOSITORY = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True, slots=True)
class Detection:
    """One detection in the event log."""

    signature: str
    action: str
    transport: str
    source: str
    destination: str
    flow_packet: int
    """1-based number of the telling packet within its flow."""
    banned: tuple[str, ...] = ()

    @property
    def hosts(self) -> tuple[str, str]:
        """Addresses of source and destination."""
        source, destination = (each.rpartition(":")[0] for each in (self.source, self.destination))
        return source.strip("[]"), destination.strip("[]")


@dataclass(frozen=True, slots=True)
class Counters:
    """What a blocker has seen and done since its start."""

    queue_packets: int = 0
    queue_dropped: int = 0
    xdp_dropped: int | None = None
    """From and to banned addresses, on all interfaces; None without XDP."""
    bans: int = 0


@dataclass(frozen=True, slots=True)
class Blocker:
    """A running btblocker that inspects what the router forwards."""

    topology: Topology
    program: Program
    event_log: Path

    def status(self) -> dict[str, Any]:
        """The answer of `btblocker status --json`; raises LabError if there is none."""
        done = self.topology.router.run([*_COMMAND, "status", "--json"])
        try:
            answer: dict[str, Any] = json.loads(done.stdout)
        except ValueError as error:
            raise LabError(f"lab: btblocker status is not JSON: {done.stdout!r}") from error
        return answer

    def detections(self) -> list[Detection]:
        """All detections so far, oldest first."""
        return [
            Detection(
                signature=entry["signature"],
                action=entry["action"],
                transport=entry["transport"],
                source=entry["source"],
                destination=entry["destination"],
                flow_packet=entry["flow_packet"],
                banned=tuple(entry["banned"]),
            )
            for entry in self.events()
            if entry["event"] == "detection"
        ]

    def events(self) -> list[dict[str, Any]]:
        """All events so far, oldest first (docs/events.md)."""
        # What is being written ends without a newline.
        lines = self.event_log.read_text().split("\n")[:-1] if self.event_log.exists() else []
        return [json.loads(line) for line in lines]

    def counters(self) -> Counters:
        """What `status` counts."""
        status = self.status()
        xdp = status["xdp"]
        return Counters(
            queue_packets=status["queue"]["packets"],
            queue_dropped=status["queue"]["dropped"],
            xdp_dropped=xdp and xdp["dropped_source"] + xdp["dropped_destination"],
            bans=status["bans"]["active"],
        )

    def kernel_queue(self) -> list[list[int]]:
        """/proc/net/netfilter/nfnetlink_queue of the router: nine numbers for each queue.

        The third is packets waiting, the sixth and seventh packets lost (queue full, socket
        full), the eighth the last packet's id.
        """
        table = Path(f"/proc/{self.program.process.pid}/net/netfilter/nfnetlink_queue")
        return [[int(word) for word in line.split()] for line in table.read_text().splitlines()]

    def reload(self) -> None:
        """Ask for a reload, as `systemctl reload` does."""
        self.program.process.send_signal(signal.SIGHUP)


_COMMAND = [sys.executable, "-m", "engine.cli"]


@contextmanager
def run_blocker(
    topology: Topology,
    *options: str,
    interfaces: Sequence[str] = (),
    chain: str = "FORWARD",
    prefix: Sequence[str] = (),
) -> Iterator[Blocker]:
    """Run btblocker on the router while the block lasts; it is inspecting when this yields.

    It watches the router's `interfaces`, or all. `options` are added to its command line, `prefix`
    stands in front of it. Raises LabError when it does not get ready, or does not end with exit
    code 0 on SIGTERM.
    """
    log = topology.folder / "events.jsonl"
    program = topology.spawn(
        topology.router,
        [
            *prefix,
            *(*_COMMAND, "run", "--manage-rules"),
            *("--interface", ",".join(interfaces or topology.interfaces)),
            *("--queue-num", str(QUEUE_NUMBER)),
            *("--chain", chain),
            # All detections are wanted here, however many.
            *("--log-limit", "1000000", "--log-limit-total", "1000000"),
            *options,
        ],
        name="btblocker",
        environment={"EVENT_LOG": str(log), "PYTHONPATH": str(_REPOSITORY)},
    )
    program.wait_for(
        lambda: _READY_LINE in program.log.read_text(errors="replace"), _READY_TIMEOUT_S
    )
    yield Blocker(topology, program, log)
    program.require_alive()
    code = program.stop()
    if code != 0:
        raise LabError(f"lab: btblocker ended with {code}, not 0, on SIGTERM; see {program.log}")
