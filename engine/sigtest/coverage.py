"""Which signatures and patterns have shown themselves, in their own tests and in captures."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from engine.compiler.database import Database
from engine.compiler.expression import placed
from engine.compiler.ruleset import RuleSet
from engine.language.diagnostics import Diagnostic
from engine.language.document import Signature


class Coverage:
    """Counts for each signature the tests of its own that it matched, as it should.

    A signature of many alternatives is tested when each of them is: so it also knows the
    patterns that stand in no payload of its signature's tests.
    """

    def __init__(self, ruleset: RuleSet, failures: Sequence[Diagnostic]) -> None:
        """`failures` are those of the RuleSet's own tests."""
        failed = {(failure.source.path, failure.span) for failure in failures}
        self._tested = {
            signature.id: sum(
                test.must_match and (signature.source.path, test.span) not in failed
                for test in signature.tests
            )
            for signature in ruleset.signatures
        }
        self._untested = _untested_patterns(ruleset.signatures)

    def as_json(self, seen: Mapping[str, int]) -> list[dict[str, Any]]:
        """For each signature the tests it matched and the flows it was found in.

        `untested_patterns` are its patterns that none of its payloads holds.
        """
        return [
            {
                "signature": name,
                "tests": tests,
                "flows": seen.get(name, 0),
                "untested_patterns": self._untested[name],
            }
            for name, tests in self._tested.items()
        ]

    def print(self, console: Console, seen: Mapping[str, int]) -> None:
        """A table, those that nothing has matched first, then a line that names them."""
        table = Table(title="Coverage", title_justify="left")
        table.add_column("signature", overflow="fold")
        table.add_column("tested", justify="right")
        table.add_column("seen", justify="right")
        rows = sorted(self.as_json(seen), key=lambda row: (bool(row["flows"]), bool(row["tests"])))
        for row in rows:
            table.add_row(
                row["signature"],
                _times(row["tests"], "test"),
                _times(row["flows"], "flow"),
            )
        console.print(table)
        unseen = [row["signature"] for row in rows if not row["flows"]]
        untested = [row["signature"] for row in rows if not row["tests"]]
        for names, what in (
            (unseen, "in no capture"),
            (untested, "in no test"),
            ([name for name in unseen if name in untested], "nowhere"),
        ):
            if names:
                print(f"matched {what}: {', '.join(names)}")
        patterns = [
            f"{row['signature']} {name}" for row in rows for name in row["untested_patterns"]
        ]
        if patterns:
            print(f"patterns in no test: {', '.join(patterns)}")
        if not unseen and not untested:
            print("every signature matched in a test and in a capture")


def _untested_patterns(signatures: Sequence[Signature]) -> dict[str, list[str]]:
    """By signature, the names of its patterns that match nowhere in the payloads of its tests."""
    each = [(signature, pattern) for signature in signatures for pattern in signature.patterns]
    database = Database([placed(pattern, None) for _, pattern in each])
    untested: dict[str, list[str]] = {}
    for signature in signatures:
        turns = [turn for test in signature.tests for turn in test.turns or ((test.payload,),)]
        payloads = itertools.chain.from_iterable(turns)
        found = {each[hit][1] for payload in payloads for hit in database.scan(payload)}
        untested[signature.id] = [p.name for p in signature.patterns if p not in found]
    return untested


def _times(count: int, noun: str) -> str:
    return "never" if count == 0 else f"{count} {noun}{'s' * (count != 1)}"
