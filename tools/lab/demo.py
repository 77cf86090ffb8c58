"""The cases as a table: what arrives without the blocker, what with it, and why not."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Sequence

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table

from tools.lab.cases import Case
from tools.lab.parallel import Job, group_cases, run_jobs
from tools.lab.trial import Trial

DEFAULT_OBSERVE_S = 15.0
DEFAULT_AT_ONCE = 3
_CASES_TOGETHER = 6


def run_demo(cases: Sequence[Case], *, observe_s: float, at_once: int, as_json: bool) -> bool:
    """Try every case without and with the blocker and print the table, or JSON.

    Beside the blocked ones goes ordinary traffic. Returns whether everything arrived without
    the blocker and nothing but ordinary traffic with it. Progress goes to standard error: a
    table that fills itself, or a line per case where that is no terminal.
    """
    jobs: list[Job] = []
    rows: dict[str, tuple[Job, Job]] = {}
    for group in group_cases(cases, _CASES_TOGETHER):
        without = Job(Trial(group, blocked=False))
        blocked = Job(Trial(group, blocked=True, observe_s=observe_s, ordinary=not jobs))
        jobs += [blocked, without]
        rows |= {case.name: (without, blocked) for case in group}
    table = [(case, *rows[case.name]) for case in cases]
    started = time.monotonic()
    # Without emoji, which rich would see in an IPv6 address.
    progress = Console(stderr=True, emoji=False)
    if progress.is_terminal:
        with Live(_table(table), console=progress, refresh_per_second=4, transient=True) as live:
            run_jobs(jobs, at_once, lambda: live.update(_table(table)))
    else:
        run_jobs(jobs, at_once, _line_printer(jobs, progress))

    if as_json:
        print(json.dumps([_as_json(job) for job in jobs], indent=2))
    else:
        # Output in a file or a pipe is not a terminal, but no reason to break names either.
        console = Console(width=None if progress.is_terminal else 160, highlight=False, emoji=False)
        console.print(_table(table))
        for sentence in _sentences(jobs):
            console.print(sentence)
        console.print(
            f"{len(cases)} cases in {time.monotonic() - started:.0f} s. With the blocker each was"
            f" observed for {observe_s:.0f} s (those of clients that start slowly, for some seconds"
            " more); the tests observe for 60 s."
        )
    return all(job.result is not None and job.result.as_expected for job in jobs)


def _table(rows: Sequence[tuple[Case, Job, Job]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="btblocker between downloaders and seeds")
    table.add_column("case", no_wrap=True)
    for heading in ("bytes without", "seconds", "bytes with"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("first detection", no_wrap=True)
    table.add_column("packet", justify="right")
    table.add_column("banned", no_wrap=True)
    for case, without, blocked in rows:
        outcome = without.outcome(case)
        seconds = f"{outcome.seconds:.1f}" if without.state == "done" and not outcome.error else ""
        table.add_row(
            case.name, _bytes(case, without), seconds, _bytes(case, blocked), *_why(case, blocked)
        )
    return table


def _bytes(case: Case, job: Job) -> str:
    """How many bytes arrived, green if that is as it should be; or where the job is."""
    outcome = job.outcome(case)
    if job.state in ("waiting", "running"):
        since = f" {time.monotonic() - job.started:.0f} s" if job.state == "running" else ""
        return f"[dim]{job.state}{since}[/]"
    if outcome.error:
        return "[red]failed[/]"
    return f"[{'green' if outcome.as_expected else 'red'}]{outcome.bytes:,}[/]"


def _why(case: Case, job: Job) -> tuple[str, str, str]:
    """First detection, its packet's number in its flow, and who was banned for it."""
    if job.result is None:
        return ("", "", "")
    for detection in job.outcome(case).detections:
        if detection.action in ("block", "drop"):
            packet = str(detection.flow_packet)
            return (detection.signature, packet, ", ".join(detection.banned) or "nobody")
    return ("none", "", "")


def _sentences(jobs: Sequence[Job]) -> list[str]:
    """What the table has no place for: ordinary traffic, and errors."""
    sentences = []
    for job in jobs:
        if job.result and job.result.ordinary:
            served = ", ".join(
                f"{usage.service} {usage.uses - usage.failures}/{usage.uses}"
                for usage in job.result.ordinary
            )
            accused = ", ".join(sorted({each.signature for each in job.result.accused})) or "none"
            sentences.append(
                f"Ordinary traffic beside it, arrived whole: {served}. Detections of it: {accused}."
            )
        outcomes = [job.outcome(case) for case in job.trial.cases]
        sentences += [f"[red]{each.case}: {each.error}[/]" for each in outcomes if each.error]
    return sentences


def _line_printer(jobs: Sequence[Job], progress: Console) -> Callable[[], None]:
    told: set[int] = set()

    def tell() -> None:
        for job in jobs:
            if job.state not in ("done", "failed") or id(job) in told:
                continue
            told.add(id(job))
            side = "with" if job.trial.blocked else "without"
            for case in job.trial.cases:
                outcome = job.outcome(case)
                result = outcome.error or f"{outcome.bytes:,} bytes"
                progress.print(
                    f"{case.name} {side} blocker: {result}", highlight=False, soft_wrap=True
                )

    return tell


def _as_json(job: Job) -> dict[str, object]:
    if job.result is None:
        names = [case.name for case in job.trial.cases]
        return {"cases": names, "blocked": job.trial.blocked, "error": job.error}
    return dataclasses.asdict(job.result)
