"""One case, once: with the blocker between the peers or without."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.lab.blocker import Blocker, BlockerReport, Detection, run_blocker
from tools.lab.cases import Case
from tools.lab.clients.peer import Peer
from tools.lab.swarm import start_swarm
from tools.lab.topology import LAN_INTERFACE, Topology

DEFAULT_SIZE_B = 2 * 1024 * 1024
_TCPDUMP_TIMEOUT_S = 10.0
_POLL_S = 0.1
_LEARNED = ("tracker_peers", "dht_peers", "dht_nodes", "neighbours")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one trial."""

    case: str
    blocked: bool
    size: int
    bytes: int
    """Of the torrent that arrived, read back from the downloader's disk."""
    seconds: float
    """From the downloader's start to the last byte, or how long it was watched."""
    learned: int | None
    """Peers and DHT answers that discovery gave the downloader, if it tells (libtorrent)."""
    report: BlockerReport | None = None

    @property
    def completed(self) -> bool:
        return self.bytes == self.size

    @property
    def as_expected(self) -> bool:
        """Everything arrived without the blocker, or nothing with it."""
        return self.bytes == 0 if self.blocked else self.completed

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Outcome:
        """What `dataclasses.asdict` made, read back."""
        report = data["report"]
        if report is not None:
            detections = [Detection(**entry) for entry in report["detections"]]
            report = BlockerReport(**{**report, "detections": detections})
        return cls(**{**data, "report": report})


@dataclass(frozen=True, slots=True)
class Trial:
    """A case and how to try it."""

    case: Case
    blocked: bool
    observe_s: float = 30.0
    """How long to watch with the blocker, once the clients can have asked for data."""
    size: int = DEFAULT_SIZE_B
    pcap: Path | None = None
    """Where to write what passes the router's inner interface."""
    logs: Path | None = None
    """Where to leave what the programs printed."""

    @property
    def limit_s(self) -> float:
        """How long the downloader is watched, unless all has arrived before."""
        return self.observe_s + self.case.first_request_s if self.blocked else self.case.limit_s

    def arguments(self) -> list[str]:
        """The command line of `python -m tools.lab` that runs this trial."""
        arguments = ["run", self.case.name, "--json", "--with" if self.blocked else "--without"]
        arguments += ["--observe", str(self.observe_s), "--size", str(self.size)]
        if self.pcap:
            arguments += ["--pcap", str(self.pcap)]
        if self.logs:
            arguments += ["--logs", str(self.logs)]
        return arguments

    def run(self) -> Outcome:
        """Set up, try, take down. Raises LabError when a part of the lab fails."""
        # A capture shall show segments as they are on a wire.
        with Topology([self.case.family], offloads=self.pcap is None) as topology:
            try:
                return self._run(topology)
            finally:
                if self.logs:
                    self.logs.mkdir(parents=True, exist_ok=True)
                    for log in topology.folder.rglob("*.log"):
                        shutil.copy(log, self.logs)

    def _run(self, topology: Topology) -> Outcome:
        with contextlib.ExitStack() as stack:
            if self.pcap:
                stack.enter_context(_capture(topology, self.pcap))
            blocker: Blocker | None = None
            if self.blocked:
                blocker = stack.enter_context(run_blocker(topology))
            downloader = start_swarm(topology.lines[0], self.case, self.size)
            started = time.monotonic()
            while (elapsed := time.monotonic() - started) < self.limit_s:
                downloader.program.require_alive()
                arrived = downloader.bytes_present()
                if arrived == self.size:
                    break
                time.sleep(_POLL_S)
            time.sleep(2 * _POLL_S)  # the status lags behind the disk
            return Outcome(
                case=self.case.name,
                blocked=self.blocked,
                size=self.size,
                bytes=downloader.bytes_present(),
                seconds=round(elapsed, 1),
                learned=_learned(downloader),
                report=blocker.report() if blocker else None,
            )


def _learned(downloader: Peer) -> int | None:
    if downloader.status_file is None:
        return None
    status = downloader.status()
    return sum(status.get(key, 0) for key in _LEARNED)


@contextlib.contextmanager
def _capture(topology: Topology, pcap: Path) -> Iterator[None]:
    argv = ["tcpdump", "-i", LAN_INTERFACE, "-n", "-U", "-s", "0", "-B", "16384", "-Z", "root", "-w", str(pcap)]
    tcpdump = topology.spawn(topology.router, argv, name="tcpdump")
    tcpdump.wait_for(lambda: "listening on" in tcpdump.log.read_text(), _TCPDUMP_TIMEOUT_S)
    yield
    tcpdump.stop()
