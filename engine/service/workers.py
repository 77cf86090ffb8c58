"""The workers as the daemon sees them: begun, told, asked, and replaced when they die."""

from __future__ import annotations

import selectors
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from subprocess import Popen, TimeoutExpired

from engine.config import Network
from engine.errors import UnavailableError
from engine.inspect.judgement import Detection
from engine.service.builder import Built
from engine.service.channel import start_process
from engine.service.messages import (
    AllBans,
    Allow,
    Ask,
    Ban,
    Counters,
    Detected,
    Dropped,
    Failed,
    Load,
    Loaded,
    Start,
    Tagged,
)

# From its start until a worker inspects; it imports and loads, and machines may be busy.
MAX_START_S = 60.0
# One that says nothing for so long hangs. Its queue is full then, and lets packets pass.
MAX_SILENCE_S = 10.0
_ANSWER_S = 2.0
_STOP_S = 5.0
# Between two starts on one queue.
_RESTART_S = 1.0

_BanTimes = Iterable[tuple[bytes, int]]


@dataclass(frozen=True, slots=True)
class WorkerCounters:
    """What one worker has done."""

    queue_num: int
    pid: int
    counters: Counters


class _Worker:
    """One of them: its process, its channel, and what was last heard of it."""

    def __init__(self, start: Start) -> None:
        self.start = start
        self.process: Popen[bytes]
        self.process, self.channel = start_process("engine.service.worker")
        self.channel.send(start)
        # Since when it owes an answer. At its start it owes `Loaded`.
        self.owes_since_s: float | None = time.monotonic()
        # What it has been sent. A message finds no room when it has not read for long.
        self.built: Built | None = None
        self.knows_bans = False
        self.knows_allowed = False
        self.works = False
        self.counters = Counters()
        self.failure = ""

    def __str__(self) -> str:
        return f"the worker of queue {self.start.queue_num}"

    @property
    def fate(self) -> str:
        """What it died of."""
        if self.failure:
            return self.failure
        if self.process.returncode == -signal.SIGKILL:
            return "killed, by somebody or for want of memory"
        return f"exit code {self.process.returncode}"

    def end(self) -> None:
        """Let it finish what it has, if it can."""
        self.channel.close()
        try:
            self.process.wait(_STOP_S)
        except TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Workers:
    """One worker for each queue. A context manager: none is left when it closes."""

    def __init__(
        self,
        starts: Iterable[Start],
        selector: selectors.BaseSelector,
        detected: Callable[[tuple[Detection, ...], bytes], None],
        dropped: Callable[[Mapping[bytes, tuple[int, int]]], None],
        bans: Callable[[], _BanTimes],
        trouble: Callable[[str], None],
    ) -> None:
        """`detected` hears of detections and of the packets they were made in, if `starts` say so.

        `dropped` hears of packets and bytes dropped for bans. `bans` gives those that a new
        worker must know; `trouble` hears of what goes wrong.

        The selector's owner calls the `data` of what becomes readable, and `check` now and then.
        """
        self._starts = tuple(starts)
        self._selector = selector
        self._detected = detected
        self._dropped = dropped
        self._bans = bans
        self._allowed: tuple[Network, ...] = ()
        self._trouble = trouble
        self._built: Built | None = None
        self._workers: dict[int, _Worker] = {}
        self._gone = Counters()
        self._waits_for: set[int] = set()
        self._loaded: Callable[[], None] | None = None
        self._again_s = 0.0
        self._has_begun = False
        # Queues whose latest worker did not even start.
        self._unable: set[int] = set()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self._has_begun = False
        leaving = list(self._workers.values())
        for worker in leaving:
            worker.works = False
            worker.channel.finish()
        for worker in leaving:
            until_s = time.monotonic() + _STOP_S
            while self._has(worker) and time.monotonic() < until_s:
                self._hear(worker, _STOP_S)
            if self._has(worker):
                self._lose(worker)

    def _has(self, worker: _Worker) -> bool:
        return self._workers.get(worker.start.queue_num) is worker

    def begin(self, built: Built) -> None:
        """Start all, and wait until they inspect. Raises UnavailableError when one cannot."""
        self._built = built
        for start in self._starts:
            self._start(start)
        for worker in list(self._workers.values()):
            until_s = time.monotonic() + MAX_START_S
            while not worker.works:
                self._hear(worker, max(0.0, until_s - time.monotonic()))
                if not self._has(worker) or time.monotonic() > until_s:
                    raise UnavailableError(worker.failure or f"{worker} does not start")
        self._has_begun = True

    def install(self, built: Built, loaded: Callable[[], None]) -> None:
        """Have all inspect with another RuleSet; `loaded` is called when all do."""
        self._built = built
        self._loaded = loaded
        self._waits_for = set(self._workers)
        for worker in self._workers.values():
            self._bring_up_to_date(worker)

    def ban(self, target: bytes, expires_ns: int) -> None:
        """Tell all of a ban."""
        for worker in self._workers.values():
            # Those that do not know of earlier ones get all of them together, in `check`.
            worker.knows_bans &= worker.channel.send(Ban(target, expires_ns))

    def unban(self, target: bytes) -> None:
        """Tell all that a ban is lifted."""
        self.ban(target, 0)

    def allow_only(self, networks: Iterable[Network]) -> None:
        """Have all let the traffic of these networks pass, and of no others."""
        self._allowed = tuple(networks)
        for worker in self._workers.values():
            worker.knows_allowed = False
            self._bring_up_to_date(worker)

    def tag(self, host: bytes, name: str, expires_s: float) -> None:
        """Tell all of a tag that a match in the driver has set."""
        for worker in self._workers.values():
            worker.channel.send(Tagged(host, name, expires_s))

    def last_heard(self) -> Counters:
        """Of all together as of the latest `check`; asks nobody."""
        known = (worker.counters for worker in self._workers.values())
        return reduce(add, known, self._gone)

    def counters(self) -> tuple[Counters, list[WorkerCounters]]:
        """Of all together, those that have died included; and of each that works now.

        What they have detected up to now is told before.
        """
        asked = [worker for worker in self._workers.values() if worker.works]
        for worker in asked:
            while self._hear(worker):  # an answer to an earlier question is none to this one
                pass
            worker.channel.send(Ask())
        for worker in asked:
            before, until_s = worker.counters, time.monotonic() + _ANSWER_S
            while worker.counters is before and self._has(worker) and time.monotonic() < until_s:
                self._hear(worker, _ANSWER_S)
        each = [WorkerCounters(w.start.queue_num, w.process.pid, w.counters) for w in asked]
        return reduce(add, (worker.counters for worker in asked), self._gone), each

    def check(self) -> None:
        """Replace those that have died or hang. To be called every second or so."""
        now_s = time.monotonic()
        for worker in list(self._workers.values()):
            # Not since it was last heard of: it may be us who have not listened.
            patience_s = MAX_SILENCE_S if worker.works else MAX_START_S
            if worker.owes_since_s is None:
                worker.owes_since_s = now_s
            elif now_s - worker.owes_since_s > patience_s:
                self._trouble(f"{worker} does not answer and is ended")
                worker.failure = "it did not answer"
                worker.process.kill()
            self._bring_up_to_date(worker)
            worker.channel.send(Ask())
        for start in self._starts:
            if start.queue_num not in self._workers and now_s > self._again_s:
                self._start(start)

    def _start(self, start: Start) -> None:
        worker = self._workers[start.queue_num] = _Worker(start)
        self._bring_up_to_date(worker)
        self._selector.register(worker.channel, selectors.EVENT_READ, lambda: self._hear(worker))

    def _bring_up_to_date(self, worker: _Worker) -> None:
        """Send what a worker has not been sent yet; what finds no room is for the next time."""
        built = self._built
        if built is not worker.built and built is not None:
            if not worker.channel.send(Load(), built.pieces):
                return
            worker.built = built
        if not worker.knows_bans:
            worker.knows_bans = worker.channel.send_pickled(AllBans(), tuple(self._bans()))
        if not worker.knows_allowed:
            worker.knows_allowed = worker.channel.send_pickled(Allow(), self._allowed)

    def _hear(self, worker: _Worker, timeout_s: float = 0.0) -> bool:
        """Take in a message of a worker's, or its end; false where there is none."""
        try:
            message, _ = worker.channel.receive(timeout_s)
        except TimeoutError:
            return False
        except EOFError:
            self._lose(worker)
            return False
        worker.owes_since_s = None
        match message:
            case Detected(detections, datagram):
                self._detected(detections, datagram)
            case Tagged():
                for other in self._workers.values():
                    if other is not worker:
                        other.channel.send(message)
            case Dropped(by_target):
                self._dropped(by_target)
            case Counters():
                worker.counters = message
            case Failed(reason):
                worker.failure = reason
            case Loaded():
                worker.works = True
                self._unable.discard(worker.start.queue_num)
                self._has_loaded(worker)
        return True

    def _has_loaded(self, worker: _Worker) -> None:
        self._waits_for.discard(worker.start.queue_num)
        if self._loaded is not None and not self._waits_for:
            loaded, self._loaded = self._loaded, None
            loaded()

    def _lose(self, worker: _Worker) -> None:
        """A worker is gone; its packets pass uninspected until another one takes its place."""
        self._selector.unregister(worker.channel)
        del self._workers[worker.start.queue_num]
        worker.end()
        self._gone += replace(worker.counters, flows=0)
        self._again_s = time.monotonic() + _RESTART_S
        if worker.works:
            self._trouble(f"{worker} has ended ({worker.fate}); another one takes its place")
        elif self._has_begun and worker.start.queue_num not in self._unable:
            self._unable.add(worker.start.queue_num)
            self._trouble(f"{worker} does not start ({worker.fate}); tried again every second")
        self._has_loaded(worker)
