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
from tools.lab.parallel import Job, run_jobs
from tools.lab.trial import Outcome, Trial

DEFAULT_OBSERVE_S = 12.0
DEFAULT_AT_ONCE = 4


def run_demo(cases: Sequence[Case], *, observe_s: float, at_once: int, as_json: bool) -> bool:
    """Try every case without and with the blocker and print the table, or JSON.

    Returns whether everything arrived without it and nothing with it. Progress goes to
    standard error: a table that fills itself, or a line per trial where that is no terminal.
    """
    pairs = [(Job(Trial(case, blocked=False)), _blocked_job(case, observe_s)) for case in cases]
    jobs = [job for pair in pairs for job in pair]
    started = time.monotonic()
    progress = Console(stderr=True)
    # The longest first: none of them is then left to run alone at the end.
    queue = sorted(
        jobs, key=lambda job: (job.trial.case.first_request_s, job.trial.blocked), reverse=True
    )
    if progress.is_terminal:
        with Live(_table(pairs), console=progress, refresh_per_second=4, transient=True) as live:
            run_jobs(queue, at_once, lambda: live.update(_table(pairs)))
    else:
        run_jobs(queue, at_once, _line_printer(jobs, progress))

    if as_json:
        print(json.dumps([_as_json(job) for job in jobs], indent=2))
    else:
        # Output in a file or a pipe is not a terminal, but no reason to break names either.
        console = Console(width=None if progress.is_terminal else 160)
        console.print(_table(pairs))
        console.print(
            f"{len(cases)} cases in {time.monotonic() - started:.0f} s. With the blocker each was"
            f" observed for {observe_s:.0f} s (Transmission, which starts slowly, for 13 s more);"
            " the tests observe for 30 s."
        )
        for job in jobs:
            if job.error:
                console.print(f"{job.trial.case.name}: {job.error}", style="red", highlight=False)
    return all(job.outcome is not None and job.outcome.as_expected for job in jobs)


def _blocked_job(case: Case, observe_s: float) -> Job:
    return Job(Trial(case, blocked=True, observe_s=observe_s))


def _table(pairs: Sequence[tuple[Job, Job]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="btblocker between a downloader and a seed")
    for heading in ("case", "downloader"):
        table.add_column(heading, no_wrap=True)
    for heading in ("bytes without", "seconds", "bytes with"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("first detection", no_wrap=True)
    for heading in ("packet", "NFQUEUE drops", "XDP drops"):
        table.add_column(heading, justify="right")
    for without, blocked in pairs:
        case = without.trial.case
        seconds = f"{without.outcome.seconds:.1f}" if without.outcome else ""
        table.add_row(
            case.name, case.downloader, _bytes(without), seconds, _bytes(blocked), *_why(blocked)
        )
    return table


def _bytes(job: Job) -> str:
    """How many bytes arrived, green if that is as it should be; or where the job is."""
    if job.outcome is None:
        style = "red" if job.state == "failed" else "dim"
        since = f" {time.monotonic() - job.started:.0f} s" if job.state == "running" else ""
        return f"[{style}]{job.state}{since}[/]"
    return f"[{'green' if job.outcome.as_expected else 'red'}]{job.outcome.bytes:,}[/]"


def _why(job: Job) -> tuple[str, str, str, str]:
    """First detection, its packet's number in its flow, packets dropped by queue and XDP."""
    if job.outcome is None or job.outcome.report is None:
        return ("", "", "", "")
    report = job.outcome.report
    first = report.detections[0] if report.detections else None
    return (
        first.signature if first else "none",
        str(first.flow_packet) if first else "",
        str(report.queue_dropped),
        "off" if report.xdp_dropped is None else str(report.xdp_dropped),
    )


def _line_printer(jobs: Sequence[Job], progress: Console) -> Callable[[], None]:
    told: set[int] = set()

    def tell() -> None:
        for job in jobs:
            if job.state in ("done", "failed") and id(job) not in told:
                told.add(id(job))
                side = "with" if job.trial.blocked else "without"
                result = job.error if job.outcome is None else f"{job.outcome.bytes:,} bytes"
                progress.print(
                    f"{len(told)}/{len(jobs)} {job.trial.case.name} {side} blocker: {result}",
                    highlight=False,
                    soft_wrap=True,
                )

    return tell


def _as_json(job: Job) -> dict[str, object]:
    outcome: Outcome | None = job.outcome
    if outcome is None:
        return {"case": job.trial.case.name, "blocked": job.trial.blocked, "error": job.error}
    return dataclasses.asdict(outcome)
