"""What it costs to ask each signature, measured on captures.

The rules run in banks that count and look at the clock; the banks that packets are judged
by elsewhere know nothing of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter_ns
from typing import Any, Self

from rich.console import Console
from rich.table import Table

from engine.compiler.ruleset import Bank, Rule, RuleSet
from engine.fields import Context
from engine.trial import CaptureTrial, try_capture


@dataclass(slots=True)
class Cost:
    """What one signature has cost.

    `triggered` counts the buffers in which its trigger matched, `calls` those for which its
    predicate ran, `true` those for which it was true; `time_ns` is the time in its predicate.
    A signature that its trigger decides is not asked.
    """

    triggered: int = 0
    calls: int = 0
    true: int = 0
    time_ns: int = 0

    def __iadd__(self, other: Cost) -> Self:
        self.triggered += other.triggered
        self.calls += other.calls
        self.true += other.true
        self.time_ns += other.time_ns
        return self


@dataclass(slots=True)
class Profile:
    """The costs of signatures, by id, and the time that reading and inspecting took in all."""

    costs: defaultdict[str, Cost] = field(default_factory=lambda: defaultdict(Cost))
    total_ns: int = 0

    def __iadd__(self, other: Profile) -> Self:
        for name, cost in other.costs.items():
            self.costs[name] += cost
        self.total_ns += other.total_ns
        return self

    def as_json(self) -> dict[str, Any]:
        """The costs, the dearest first."""
        return {
            "total_ns": self.total_ns,
            "signatures": [
                {
                    "signature": name,
                    "triggered": cost.triggered,
                    "calls": cost.calls,
                    "true": cost.true,
                    "time_ns": cost.time_ns,
                }
                for name, cost in self._sorted()
            ],
        }

    def print(self, console: Console) -> None:
        """A table, the dearest first."""
        table = Table(title="Cost of the signatures", title_justify="left")
        table.add_column("signature", overflow="fold")
        for column in ("triggered", "calls", "true", "ns a call", "ms", "share"):
            table.add_column(column, justify="right")
        for name, cost in self._sorted():
            table.add_row(
                name,
                str(cost.triggered),
                str(cost.calls),
                str(cost.true),
                f"{cost.time_ns / cost.calls:,.0f}" if cost.calls else "",
                f"{cost.time_ns / 1e6:.1f}",
                f"{cost.time_ns / max(1, self.total_ns):.1%}",
            )
        console.print(table)
        spent_ns = sum(cost.time_ns for cost in self.costs.values())
        print(
            f"predicates took {spent_ns / 1e6:.1f} ms of {self.total_ns / 1e6:.1f} ms "
            "spent on reading and inspecting"
        )

    def _sorted(self) -> list[tuple[str, Cost]]:
        def dearest(item: tuple[str, Cost]) -> tuple[int, int, str]:
            name, cost = item
            return -cost.time_ns, -cost.triggered, name

        return sorted(self.costs.items(), key=dearest)


class _MeasuredBank(Bank):
    def __init__(self, bank: Bank, profile: Profile) -> None:
        vars(self).update(vars(bank))  # what is compiled is shared
        self._costs = profile.costs
        self._always_asked = {rule.id for rule in bank.candidates(())}
        for rule in bank.rules:
            profile.costs[rule.id]

    def decide(self, hits: Sequence[int], context: Context) -> list[Rule]:
        found = []
        matched = frozenset(hits)
        for rule in self.candidates(hits):
            cost = self._costs[rule.id]
            cost.triggered += rule.id not in self._always_asked
            true = True
            if rule.predicate is not None or rule.clauses:
                cost.calls += 1
                started_ns = perf_counter_ns()
                true = rule.is_true(context, matched)
                cost.time_ns += perf_counter_ns() - started_ns
            if true:
                cost.true += 1
                found.append(rule)
        return found

    def follow(
        self, rules: Sequence[Rule], context: Context
    ) -> tuple[list[Rule], tuple[Rule, ...]]:
        found: list[Rule] = []
        later: list[Rule] = []
        for rule in rules:
            cost = self._costs[rule.id]
            cost.calls += 1
            started_ns = perf_counter_ns()
            true, open_still = super().follow((rule,), context)
            cost.time_ns += perf_counter_ns() - started_ns
            cost.true += len(true)
            found += true
            later += open_still
        return found, tuple(later)


def profile_capture(
    path: Path, ruleset: RuleSet, *, isolate_flows: bool = False
) -> tuple[CaptureTrial, Profile]:
    """Inspect a capture as `try_capture` does, and measure each signature."""
    profile = Profile()
    measured = ruleset.with_banks(lambda bank: _MeasuredBank(bank, profile))
    started_ns = perf_counter_ns()
    trial = try_capture(path, measured, isolate_flows=isolate_flows)
    profile.total_ns = perf_counter_ns() - started_ns
    return trial, profile
