"""Which flows two sets of signatures judge differently."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from engine.errors import InputError
from engine.signatures import load
from engine.sigtest.listing import count, with_progress
from engine.trial import CaptureTrial, FlowTrial, each_capture, find_captures, try_capture

# What can become of a flow, the most telling first.
CHANGES: Final = (
    "newly detected",
    "no longer detected",
    "other action",
    "other signatures",
    "other packet",
)


@dataclass(frozen=True, slots=True)
class Difference:
    """A flow that the new signatures judge differently; `change` is one of CHANGES."""

    old: FlowTrial
    new: FlowTrial
    change: str

    def as_json(self) -> dict[str, Any]:
        key = self.new.key
        verdict = ("detected", "signatures", "first_payload_index", "action")
        old, new = self.old.as_json(), self.new.as_json()
        return {
            "proto": key.proto,
            "a": key.a,
            "b": key.b,
            "change": self.change,
            "old": {name: old[name] for name in verdict},
            "new": {name: new[name] for name in verdict},
        }


def differing(old: CaptureTrial, new: CaptureTrial) -> Iterator[Difference]:
    """The flows of one capture that changed, in its order."""
    for before, after in zip(old.flows, new.flows, strict=True):
        change = _change(before, after)
        if change is not None:
            yield Difference(before, after, change)


def _change(old: FlowTrial, new: FlowTrial) -> str | None:
    if old.detected != new.detected:
        return "newly detected" if new.detected else "no longer detected"
    if old.action != new.action:
        return "other action"
    if set(old.signatures) != set(new.signatures):
        return "other signatures"
    if old.first_payload_index != new.first_payload_index:
        return "other packet"
    return None


def run(options: argparse.Namespace) -> int:
    """Print the flows that change; returns 0 when there are none, 1 when there are."""
    captures = find_captures(options.captures)
    old, new = (
        load(path, profile=options.detection_profile, enable_all=options.all)
        for path in options.diff
    )

    def work(path: Path) -> tuple[CaptureTrial, CaptureTrial]:
        return try_capture(path, old), try_capture(path, new)

    changes: Counter[str] = Counter()
    flows = 0
    errors = []
    trials = each_capture(captures, work, options.processes)
    for before, after in with_progress(trials, len(captures)):
        if after.error is not None:
            errors.append(after.error)
            print(f"sigtest: {after.error}", file=sys.stderr)
        flows += len(after.flows)
        found = list(differing(before, after))
        changes.update(difference.change for difference in found)
        if options.json:
            for difference in found:
                print(json.dumps({"file": str(after.path), **difference.as_json()}))
        elif found:
            _print(after.path, found)
    exit_code = InputError.exit_code if errors else int(bool(changes))
    if options.json:
        summary = {
            "captures": len(captures),
            "flows": flows,
            "changes": {change: changes[change] for change in CHANGES},
            "errors": errors,
            "exit_code": exit_code,
        }
        print(json.dumps({"summary": summary}))
    else:
        what = f"{count(len(captures), 'capture')}, {count(flows, 'flow')}"
        print(f"{what}, {changes.total()} judged differently")
        for change in CHANGES:
            if changes[change]:
                print(f"  {change}: {changes[change]}")
    return exit_code


def _print(path: Path, differences: list[Difference]) -> None:
    print(path)
    for difference in differences:
        print(f"  {difference.change}: {difference.new.key}")
        print(f"    - {_verdict(difference.old)}")
        print(f"    + {_verdict(difference.new)}")


def _verdict(flow: FlowTrial) -> str:
    if not flow.signatures:
        return "nothing"
    place = "" if flow.first_payload_index is None else f" in packet {flow.first_payload_index}"
    return f"{flow.action} by {', '.join(flow.signatures)}{place}"
