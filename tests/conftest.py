"""Options that hold for every test, and which tests go together when several run at once."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadFileScheduling

LAB = "tests/lab/"

# How long an example takes says something about the machine, not about the code.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--no-skips", action="store_true", help="a skipped test fails the run (used in CI)"
    )
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write what signature authors are told into tests/language/golden/*.txt",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the lab's: they take longest, and mostly wait."""
    items.sort(key=lambda item: not item.nodeid.startswith(LAB))


class _ByFile(LoadFileScheduling):
    """A file's tests, and all of the lab's, in one process: they share what they set up."""

    def _split_scope(self, nodeid: str) -> str:
        return LAB if nodeid.startswith(LAB) else str(super()._split_scope(nodeid))


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> _ByFile:
    return _ByFile(config, log)


def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:  # one of several processes, which report to another
        return
    if session.config.getoption("--no-skips") and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


# What tests have measured, told at the end: docs/reliability.md shows a run.
MEASURED = "measured"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    lines = [
        f"{report.head_line}: {value}"
        for report in terminalreporter.getreports("passed")
        for name, value in report.user_properties
        if name == MEASURED
    ]
    if lines:
        terminalreporter.section("measured")
        for line in lines:
            terminalreporter.line(line)
