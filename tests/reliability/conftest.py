"""What each fault has cost, printed at the end: docs/reliability.md shows a run of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tools.lab.topology import Topology

_MEASURED = "measured"

Measured = Callable[[str], None]


@pytest.fixture
def topology() -> Iterator[Topology]:
    """A gateway with two lines: what happens to one need not touch the other."""
    with Topology((4, 6), (4, 6)) as made:
        yield made


@pytest.fixture
def measured(record_property: Callable[[str, object], None]) -> Measured:
    """Note what was measured, for the table; a test asserts what holds on any machine."""
    return lambda text: record_property(_MEASURED, text)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    lines = [
        f"{report.head_line}: {value}"
        for report in terminalreporter.getreports("passed")
        for name, value in report.user_properties
        if name == _MEASURED
    ]
    if lines:
        terminalreporter.section("measured")
        for line in lines:
            terminalreporter.line(line)
