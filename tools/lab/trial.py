"""Some cases, once, through one router: with the blocker on it or without."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.lab.addresses import Family
from tools.lab.blocker import Blocker, Counters, Detection, run_blocker
from tools.lab.cases import Case
from tools.lab.clients.peer import Peer
from tools.lab.ordinary import OrdinaryTraffic, Usage
from tools.lab.program import LabError, wait_until
from tools.lab.swarm import start_swarm
from tools.lab.topology import LAN_INTERFACE, Line, Topology

DEFAULT_SIZE_B = 2 * 1024 * 1024
_BOTH_FAMILIES: tuple[Family, ...] = (4, 6)
# With a late blocker: as slow as to take longer than it is watched.
LATE_SIZE_B = 16 * 1024 * 1024
_LATE_RATE_B = 128 * 1024
_GRACE_S = 3.0
_TCPDUMP_TIMEOUT_S = 10.0
_POLL_S = 0.1
_LEARNED = ("tracker_peers", "dht_peers", "dht_nodes", "neighbours")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one case."""

    case: str
    blocked: bool
    size: int
    bytes: int = 0
    """Of the torrent that arrived, read back from the downloader's disk."""
    seconds: float = 0.0
    """From the downloader's start to the last byte, or how long it was watched."""
    learned: int | None = None
    """Peers and DHT answers that discovery gave the downloader, if it tells (libtorrent)."""
    detections: list[Detection] = field(default_factory=list)
    """Those that name its hosts, oldest first."""
    error: str = ""
    """Why it could not be tried to the end."""

    @property
    def as_expected(self) -> bool:
        """Everything arrived without the blocker, or nothing with it."""
        return not self.error and self.bytes == (0 if self.blocked else self.size)


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a trial."""

    outcomes: list[Outcome]
    ordinary: list[Usage] = field(default_factory=list)
    accused: list[Detection] = field(default_factory=list)
    """Those that name a host with nothing but ordinary traffic."""
    counters: Counters | None = None
    """The blocker's."""

    @property
    def as_expected(self) -> bool:
        served = all(usage.uses and not usage.failures for usage in self.ordinary)
        return served and not self.accused and all(each.as_expected for each in self.outcomes)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Result:
        """What `dataclasses.asdict` made, read back."""

        def detections(entries: list[dict[str, Any]]) -> list[Detection]:
            return [Detection(**entry) for entry in entries]

        return cls(
            outcomes=[
                Outcome(**{**each, "detections": detections(each["detections"])})
                for each in data["outcomes"]
            ],
            ordinary=[Usage(**each) for each in data["ordinary"]],
            accused=detections(data["accused"]),
            counters=Counters(**data["counters"]) if data["counters"] else None,
        )


@dataclass(frozen=True, slots=True)
class Trial:
    """Cases to be tried at the same time, each on a line of its own, and how."""

    cases: tuple[Case, ...]
    blocked: bool
    observe_s: float = 30.0
    """How long to watch with the blocker, once the clients can have asked for data."""
    size: int = DEFAULT_SIZE_B
    late: bool = False
    """Whether the blocker begins when data is flowing, and only what arrives then counts."""
    ordinary: bool = False
    """Whether one more line carries ordinary traffic all the while."""
    pcap: Path | None = None
    """Where to write what passes the router's inner interface of the first line."""
    logs: Path | None = None
    """Where to leave what the programs printed, in a folder for each case."""

    def limit_s(self, case: Case) -> float:
        """How long a downloader is watched, unless all has arrived before."""
        return self.observe_s + case.first_request_s if self.blocked else case.limit_s

    def arguments(self) -> list[str]:
        """The command line of `python -m tools.lab` that runs this trial."""
        arguments = ["run", *(case.name for case in self.cases), "--json"]
        arguments += ["--with" if self.blocked else "--without"]
        arguments += ["--observe", str(self.observe_s), "--size", str(self.size)]
        arguments += ["--late"] if self.late else []
        arguments += ["--ordinary"] if self.ordinary else []
        arguments += ["--pcap", str(self.pcap)] if self.pcap else []
        arguments += ["--logs", str(self.logs)] if self.logs else []
        return arguments

    def run(self) -> Result:
        """Set up, try, take down. Raises LabError when the router or the blocker fails."""
        lines = [(case.family,) for case in self.cases]
        # A capture shall show segments as they are on a wire.
        with Topology(
            *lines, *([_BOTH_FAMILIES] if self.ordinary else []), offloads=self.pcap is None
        ) as topology:
            try:
                return self._run(topology)
            finally:
                if self.logs:
                    self._keep_logs(topology, self.logs)

    def _run(self, topology: Topology) -> Result:
        with contextlib.ExitStack() as stack:
            if self.pcap:
                stack.enter_context(_capture(topology, self.pcap))
            blocker: Blocker | None = None
            if self.blocked and not self.late:
                blocker = stack.enter_context(run_blocker(topology))
            traffic = OrdinaryTraffic(topology.lines[-1]) if self.ordinary else None
            attempts = [
                _Attempt.start(line, case, self)
                for line, case in zip(topology.lines, self.cases, strict=False)
            ]
            if self.blocked and self.late:
                for attempt in attempts:
                    attempt.wait_for_data()
                blocker = stack.enter_context(run_blocker(topology))
                time.sleep(_GRACE_S)
                for attempt in attempts:
                    attempt.begin_again()
            while sum(attempt.look() for attempt in attempts):  # any() would leave some out
                if traffic:
                    traffic.flow()
                time.sleep(_POLL_S)
            time.sleep(2 * _POLL_S)  # the status lags behind the disk
            detections = blocker.detections() if blocker else []
            return Result(
                outcomes=[attempt.outcome(self.blocked, detections) for attempt in attempts],
                ordinary=traffic.usages if traffic else [],
                accused=_naming(topology.lines[-1], detections) if traffic else [],
                counters=blocker.counters() if blocker else None,
            )

    def _keep_logs(self, topology: Topology, logs: Path) -> None:
        for line, case in zip(topology.lines, self.cases, strict=False):
            (logs / case.name).mkdir(parents=True, exist_ok=True)
            for log in line.folder.glob("*.log"):
                shutil.copy(log, logs / case.name)
        for log in topology.folder.glob("*.log"):
            shutil.copy(log, logs)


@dataclass(slots=True)
class _Attempt:
    """A case under way on a line."""

    line: Line
    case: Case
    size: int
    limit_s: float
    downloader: Peer | None = None
    error: str = ""
    started: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    before: int = 0
    """Bytes that do not count."""

    @classmethod
    def start(cls, line: Line, case: Case, trial: Trial) -> _Attempt:
        attempt = cls(line, case, trial.size, trial.limit_s(case))
        limit = _LATE_RATE_B if trial.late else None
        try:
            attempt.downloader = start_swarm(line, case, trial.size, limit)
        except LabError as error:
            attempt.error = str(error)
        attempt.started = time.monotonic()
        return attempt

    def wait_for_data(self) -> None:
        """Wait until some of the torrent has arrived."""
        try:
            wait_until(lambda: self.bytes_present() > 0, self.case.limit_s, "the first block")
        except LabError as error:
            self.error = self.error or str(error)

    def begin_again(self) -> None:
        """Count only what arrives from now on."""
        self.before = self.bytes_present()
        self.started = time.monotonic()
        if self.before == self.size:
            self.error = "lab: all had arrived before the blocker began"

    def bytes_present(self) -> int:
        return self.downloader.bytes_present() - self.before if self.downloader else 0

    def look(self) -> bool:
        """Look how far it is; whether it goes on."""
        if self.downloader is None or self.error or self.seconds:
            return False
        elapsed = time.monotonic() - self.started
        try:
            self.downloader.program.require_alive()
        except LabError as error:
            self.error = str(error)
        if self.error or elapsed >= self.limit_s or self.bytes_present() == self.size:
            self.seconds = round(elapsed, 1)
        return not self.seconds

    def outcome(self, blocked: bool, detections: list[Detection]) -> Outcome:
        return Outcome(
            case=self.case.name,
            blocked=blocked,
            size=self.size,
            bytes=self.bytes_present(),
            seconds=self.seconds,
            learned=_learned(self.downloader) if self.downloader else None,
            detections=_naming(self.line, detections),
            error=self.error,
        )


def _naming(line: Line, detections: list[Detection]) -> list[Detection]:
    return [each for each in detections if any(line.addresses.contain(host) for host in each.hosts)]


def _learned(downloader: Peer) -> int | None:
    if downloader.status_file is None:
        return None
    status = downloader.status()
    return sum(status.get(key, 0) for key in _LEARNED)


@contextlib.contextmanager
def _capture(topology: Topology, pcap: Path) -> Iterator[None]:
    argv = ["tcpdump", "-i", LAN_INTERFACE, "-n", "-U", "-s", "0", "-B", "16384"]
    argv += ["-Z", "root", "-w", str(pcap)]
    tcpdump = topology.spawn(topology.router, argv, name="tcpdump")
    tcpdump.wait_for(lambda: "listening on" in tcpdump.log.read_text(), _TCPDUMP_TIMEOUT_S)
    yield
    tcpdump.stop()
