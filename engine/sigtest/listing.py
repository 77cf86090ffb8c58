"""What signatures find in captures: flow by flow, then in all."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import track
from rich.table import Table

from engine.compiler.ruleset import RuleSet
from engine.errors import InputError
from engine.language.diagnostics import Diagnostic
from engine.selftest import self_test
from engine.signatures import load
from engine.sigtest.coverage import Coverage
from engine.sigtest.profile import Profile, profile_capture
from engine.trial import CaptureTrial, each_capture, find_captures, try_capture
from engine.truth import CaptureScore, Manifest, Score, Tally, score_capture, total

T = TypeVar("T")


def run(options: argparse.Namespace) -> int:
    """Try the captures and print flow by flow what was found; returns the exit code."""
    captures = find_captures(options.captures)
    manifest = Manifest(options.truth) if options.truth else None
    labels = {path: manifest.labels_of(path) for path in captures} if manifest else {}
    ruleset = load(options.signatures, profile=options.detection_profile, enable_all=options.all)
    failures = self_test(ruleset)
    for failure in failures:
        print(failure, file=sys.stderr)

    summary = _Summary(failures, ruleset, coverage=options.coverage, profile=options.profile)

    def work(path: Path) -> tuple[CaptureTrial, Profile | None]:
        if options.profile:
            return profile_capture(path, ruleset, isolate_flows=options.isolate_flows)
        return try_capture(path, ruleset, isolate_flows=options.isolate_flows), None

    trials = each_capture(captures, work, options.processes)
    for trial, profile in with_progress(trials, len(captures)):
        if trial.error is not None:
            print(f"sigtest: {trial.error}", file=sys.stderr)
        score = None
        if manifest:
            detected = {flow.key: flow.detected for flow in trial.flows}
            score = score_capture(labels[trial.path], detected)
        summary.add(trial, score, profile)
        if options.json:
            for flow in trial.flows:
                print(json.dumps({"file": str(trial.path), **flow.as_json()}))
        elif trial.flows or trial.error is None:
            _print_trial(trial, score)

    if options.json:
        print(json.dumps({"summary": summary.as_json()}))
    else:
        summary.print()
    return summary.exit_code


def with_progress(trials: Iterator[T], captures: int) -> Iterable[T]:
    """A bar on standard error, where the listing is not on the same terminal already."""
    if not sys.stderr.isatty() or sys.stdout.isatty():
        return trials
    return track(trials, "Inspecting", captures, console=Console(stderr=True), transient=True)


class _Summary:
    def __init__(
        self, failures: Sequence[Diagnostic], ruleset: RuleSet, *, coverage: bool, profile: bool
    ) -> None:
        self._failures = failures
        self._coverage = Coverage(ruleset, failures) if coverage else None
        self._profile = Profile() if profile else None
        self._captures = 0
        self._packets = 0
        self._skipped: Counter[str] = Counter()
        self._flows = 0
        self._detected = 0
        self._signatures: Counter[str] = Counter()
        self._errors: list[str] = []
        self._scores: list[CaptureScore] = []
        self._started_s = time.monotonic()

    def add(self, trial: CaptureTrial, score: CaptureScore | None, profile: Profile | None) -> None:
        self._captures += 1
        self._packets += trial.packets
        self._skipped.update(trial.skipped)
        self._flows += len(trial.flows)
        for flow in trial.flows:
            self._detected += flow.detected
            self._signatures.update(flow.signatures)
        if trial.error is not None:
            self._errors.append(trial.error)
        if score is not None:
            self._scores.append(score)
        if self._profile is not None and profile is not None:
            self._profile += profile

    @property
    def score(self) -> Score | None:
        return total(self._scores) if self._scores else None

    @property
    def exit_code(self) -> int:
        if self._errors:
            return InputError.exit_code
        score = self.score
        return 1 if self._failures or (score and not score.holds) else 0

    def as_json(self) -> dict[str, Any]:
        score = self.score
        asked: dict[str, Any] = {}
        if self._coverage is not None:
            asked["coverage"] = self._coverage.as_json(self._signatures)
        if self._profile is not None:
            asked["profile"] = self._profile.as_json()
        return {
            "captures": self._captures,
            "packets": self._packets,
            "skipped": dict(sorted(self._skipped.items())),
            "flows": self._flows,
            "detected": self._detected,
            "signatures": dict(sorted(self._signatures.items())),
            "failed_tests": list(map(str, self._failures)),
            "errors": self._errors,
            "score": score.as_json() if score else None,
            "exit_code": self.exit_code,
            **asked,
        }

    def print(self) -> None:
        took_s = time.monotonic() - self._started_s
        print(
            f"\n{count(self._captures, 'capture')}, {count(self._packets, 'packet')} "
            f"({self._packets / max(took_s, 1e-9):,.0f} a second), "
            f"{count(self._flows, 'flow')}, {self._detected} detected"
        )
        for reason, frames in self._skipped.most_common():
            print(f"  {count(frames, 'frame')} left out: {reason}")
        for signature, flows in self._signatures.most_common():
            print(f"  {count(flows, 'flow')}: {signature}")
        if self._failures:
            print(f"  {count(len(self._failures), 'test')} of the signatures failed")
        score = self.score
        if score:
            _print_score(score)
        console = table_console()
        if self._coverage is not None:
            self._coverage.print(console, self._signatures)
        if self._profile is not None:
            self._profile.print(console)


def count(number: int, noun: str) -> str:
    """`1 packet`, `2 packets`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _print_trial(trial: CaptureTrial, score: CaptureScore | None) -> None:
    matched = [flow for flow in trial.flows if flow.signatures]
    print(
        f"{trial.path}: {count(trial.packets, 'packet')}, {count(len(trial.flows), 'flow')}, "
        f"{sum(flow.detected for flow in matched)} detected"
    )
    false_positives = set(score.false_positives) if score else set()
    for flow in matched:
        place = "" if flow.first_payload_index is None else f" in packet {flow.first_payload_index}"
        verdict = "  FALSE POSITIVE" if flow.key in false_positives else ""
        print(f"  {flow.action:5}  {flow.key}  {', '.join(flow.signatures)}{place}{verdict}")
    for missed in score.missed if score else ():
        print(f"  MISSED {missed.key}  {missed.kind}")


def table_console() -> Console:
    """Where tables go. A file or a pipe has no width: take what the longest rows need."""
    return Console(width=None if sys.stdout.isatty() else 120, highlight=False)


def _print_score(score: Score) -> None:
    console = table_console()
    tables: list[tuple[str, str, str, Mapping[str, Tally]]] = [
        ("BitTorrent flows", "kind", "missed", score.kinds),
        ("Other flows", "class", "false positives", score.classes),
        (
            "Apart: neither missed nor false",
            "scope and kind",
            "not detected",
            {" ".join(key): tally for key, tally in score.apart.items()},
        ),
        ("Apart: arguable or synthetic files", "file", "not detected", score.disputed),
    ]
    for title, key, last, tallies in tables:
        if not tallies:
            continue
        table = Table(title=title, title_justify="left")
        table.add_column(key, overflow="fold")
        for column in ("flows", "detected", last):
            table.add_column(column, justify="right")
        for name, tally in tallies.items():
            bad = tally.detected if last == "false positives" else tally.flows - tally.detected
            table.add_row(name, str(tally.flows), str(tally.detected), str(bad))
        console.print(table)
    print(
        f"{score.missed} missed, {count(score.false_positives, 'false positive')}: "
        f"{'every expectation holds' if score.holds else 'expectations fail'}"
    )
