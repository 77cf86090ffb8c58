"""The `tools/sigtest` command: tries signatures on captures and prints what they say.

Exit codes: 0 when every expectation holds (the signatures' own tests; with --truth
also no flow missed and none detected falsely), 1 when one fails, 2 on bad input.
A capture that is damaged does not keep the others from being tried.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from rich.console import Console
from rich.progress import track
from rich.table import Table

from engine.errors import BtblockerError, InputError, UnavailableError
from engine.paths import shipped_signatures
from engine.selftest import self_test
from engine.signatures import load
from engine.trial import CaptureTrial, find_captures, try_captures, usable_processors
from engine.truth import CaptureScore, Manifest, Score, Tally, score_capture, total


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see sigtest --help)")


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"not a number of processes: {text!r}")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="sigtest", description="Try the signatures on captures.")
    parser.add_argument(
        "captures",
        metavar="CAPTURE",
        nargs="+",
        type=Path,
        help="pcap or pcapng, plain or gzip; a folder means all captures in it",
    )
    parser.add_argument(
        "--signatures", metavar="DIR", type=Path, help="instead of those that btblocker ships"
    )
    parser.add_argument(
        "--all", action="store_true", help="with the signatures that are switched off, too"
    )
    parser.add_argument(
        "--truth",
        metavar="MANIFEST",
        type=Path,
        help="labels of the captures: score the verdicts against them",
    )
    parser.add_argument(
        "--json", action="store_true", help="one JSON object a flow, then the summary"
    )
    parser.add_argument(
        "-j",
        dest="processes",
        metavar="N",
        type=_positive,
        default=usable_processors(),
        help="processes (default: one for each processor, %(default)s)",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    signal.signal(signal.SIGTERM, _stop)
    try:
        code = _run(_parser().parse_args(arguments))
        sys.stdout.flush()
    except BtblockerError as err:
        print(f"sigtest: {err}", file=sys.stderr)
        return err.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone; the interpreter must not try once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return code


def _stop(signal_number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(128 + signal_number)


def _run(options: argparse.Namespace) -> int:
    captures = find_captures(options.captures)
    manifest = Manifest(options.truth) if options.truth else None
    labels = {path: manifest.labels_of(path) for path in captures} if manifest else {}
    ruleset = load(options.signatures or shipped_signatures(), enable_all=options.all)
    failures = [str(failure) for failure in self_test(ruleset)]
    for failure in failures:
        print(failure, file=sys.stderr)

    summary = _Summary(failures)
    try:
        for trial in _with_progress(
            try_captures(captures, ruleset, options.processes), len(captures)
        ):
            if trial.error is not None:
                print(f"sigtest: {trial.error}", file=sys.stderr)
            score = None
            if manifest:
                detected = {flow.key: flow.detected for flow in trial.flows}
                score = score_capture(labels[trial.path], detected)
            summary.add(trial, score)
            if options.json:
                for flow in trial.flows:
                    print(json.dumps({"file": str(trial.path), **flow.as_json()}))
            elif trial.flows or trial.error is None:
                _print_trial(trial, score)
    except BrokenProcessPool as err:
        raise UnavailableError("a process that inspected captures was killed") from err

    if options.json:
        print(json.dumps({"summary": summary.as_json()}))
    else:
        summary.print()
    return summary.exit_code


def _with_progress(trials: Iterator[CaptureTrial], captures: int) -> Iterable[CaptureTrial]:
    """A bar on standard error, where the listing is not on the same terminal already."""
    if not sys.stderr.isatty() or sys.stdout.isatty():
        return trials
    return track(trials, "Inspecting", captures, console=Console(stderr=True), transient=True)


class _Summary:
    def __init__(self, failures: Sequence[str]) -> None:
        self._failures = failures
        self._captures = 0
        self._packets = 0
        self._skipped: Counter[str] = Counter()
        self._flows = 0
        self._detected = 0
        self._signatures: Counter[str] = Counter()
        self._errors: list[str] = []
        self._scores: list[CaptureScore] = []
        self._scored = False
        self._started_s = time.monotonic()

    def add(self, trial: CaptureTrial, score: CaptureScore | None) -> None:
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
        return {
            "captures": self._captures,
            "packets": self._packets,
            "skipped": dict(sorted(self._skipped.items())),
            "flows": self._flows,
            "detected": self._detected,
            "signatures": dict(sorted(self._signatures.items())),
            "failed_tests": list(self._failures),
            "errors": self._errors,
            "score": score.as_json() if score else None,
            "exit_code": self.exit_code,
        }

    def print(self) -> None:
        took_s = time.monotonic() - self._started_s
        print(
            f"\n{_count(self._captures, 'capture')}, {_count(self._packets, 'packet')} "
            f"({self._packets / max(took_s, 1e-9):,.0f} a second), "
            f"{_count(self._flows, 'flow')}, {self._detected} detected"
        )
        for reason, frames in self._skipped.most_common():
            print(f"  {_count(frames, 'frame')} left out: {reason}")
        for signature, flows in self._signatures.most_common():
            print(f"  {_count(flows, 'flow')}: {signature}")
        if self._failures:
            print(f"  {_count(len(self._failures), 'test')} of the signatures failed")
        score = self.score
        if score:
            _print_score(score)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _print_trial(trial: CaptureTrial, score: CaptureScore | None) -> None:
    matched = [flow for flow in trial.flows if flow.signatures]
    print(
        f"{trial.path}: {_count(trial.packets, 'packet')}, {_count(len(trial.flows), 'flow')}, "
        f"{sum(flow.detected for flow in matched)} detected"
    )
    false_positives = set(score.false_positives) if score else set()
    for flow in matched:
        place = "" if flow.first_payload_index is None else f" in packet {flow.first_payload_index}"
        verdict = "  FALSE POSITIVE" if flow.key in false_positives else ""
        print(f"  {flow.action:5}  {flow.key}  {', '.join(flow.signatures)}{place}{verdict}")
    for missed in score.missed if score else ():
        print(f"  MISSED {missed.key}  {missed.kind}")


def _print_score(score: Score) -> None:
    # A file or a pipe has no width: take what the longest rows need.
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
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
        f"{score.missed} missed, {_count(score.false_positives, 'false positive')}: "
        f"{'every expectation holds' if score.holds else 'expectations fail'}"
    )
