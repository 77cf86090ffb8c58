"""Several trials at once, each in a process of its own.

A process of its own, because Ctrl-C reaches only a main thread: there each trial can undo
what it has set up, in order.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from tools.lab.cases import Case
from tools.lab.trial import Outcome, Result, Trial

State = Literal["waiting", "running", "done", "failed"]

_POLL_S = 0.1
# Setting up and taking down, on a busy machine: of the router, and of each swarm.
_OVERHEAD_S = 90.0
_CASE_OVERHEAD_S = 10.0
_INTERRUPT_S = 60.0


@dataclass(slots=True)
class Job:
    """One trial in the row: where it is, and in the end its result or its error."""

    trial: Trial
    state: State = "waiting"
    started: float = 0.0
    result: Result | None = None
    error: str = ""
    process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self.state, self.started = "running", time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tools.lab", *self.trial.arguments()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Ctrl-C in the terminal comes here; it is passed on once, not received twice.
            start_new_session=True,
        )

    def poll(self) -> None:
        """Take the result if there is one; end a process that has been at it for too long."""
        assert self.process is not None
        if self.process.poll() is None:
            cases = self.trial.cases
            longest_s = max(map(self.trial.limit_s, cases)) + _CASE_OVERHEAD_S * len(cases)
            if time.monotonic() - self.started < longest_s + _OVERHEAD_S:
                return
            self.process.send_signal(signal.SIGTERM)
            self.end()
            self.error = f"no end after {longest_s + _OVERHEAD_S:.0f} s"
        output, complaints = self.process.communicate()
        try:
            self.result = Result.from_json(json.loads(output))
            self.state = "done"
        except ValueError:
            self.state = "failed"
            self.error = self.error or (complaints.strip().splitlines() or ["no result"])[-1]

    def end(self) -> None:
        """Wait for an interrupted process to clean up; kill it when it does not end."""
        assert self.process is not None
        try:
            self.process.wait(_INTERRUPT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def outcome(self, case: Case) -> Outcome:
        """What became of one of its cases; that of a failed trial tells the error."""
        for outcome in self.result.outcomes if self.result else []:
            if outcome.case == case.name:
                return outcome
        error = self.error or "not run"
        return Outcome(case.name, self.trial.blocked, self.trial.size, error=error)


def group_cases(cases: Sequence[Case], most: int) -> list[tuple[Case, ...]]:
    """Groups of at most `most`, to share a router; those that take longest come first."""
    ordered = sorted(cases, key=lambda case: case.first_request_s, reverse=True)
    return [tuple(ordered[start : start + most]) for start in range(0, len(ordered), most)]


def run_jobs(jobs: Sequence[Job], at_once: int, watch: Callable[[], None] = lambda: None) -> None:
    """Run all jobs in order, at most `at_once` together, and call `watch` ten times a second.

    A trial that fails marks its job and stops nothing else. On any exception, Ctrl-C included,
    the running ones are interrupted and have cleaned up when this returns.
    """
    try:
        while any(job.state in ("waiting", "running") for job in jobs):
            running = [job for job in jobs if job.state == "running"]
            for job in running:
                job.poll()
            waiting = [job for job in jobs if job.state == "waiting"]
            for job in waiting[: at_once - sum(job.state == "running" for job in running)]:
                job.start()
            watch()
            time.sleep(_POLL_S)
    finally:
        left = [job for job in jobs if job.process and job.process.poll() is None]
        for job in left:
            if job.process:
                job.process.send_signal(signal.SIGTERM)
        for job in left:
            job.end()
