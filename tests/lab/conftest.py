"""All trials of a session run side by side, before the first test asks for one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tools.lab.cases import CASES, select_cases
from tools.lab.parallel import Job, group_cases, run_jobs
from tools.lab.trial import LATE_SIZE_B, Outcome, Result, Trial

ROUTERS_AT_ONCE = 4
CASES_TOGETHER = 6
OBSERVE_S = 60.0
# With ordinary traffic beside them: each transport, encrypted or not, and each discovery in UDP.
BESIDE_ORDINARY = (
    "libtorrent-tcp-dial6",
    "libtorrent-mse-dial4",
    "libtorrent-utp-mse-dial4",
    "transmission-any-told4",
    "qbittorrent-any-dht4-magnet",
    "rtorrent-any-udp-tracker4",
)
# Connections that were there before the blocker can be told where they are not encrypted.
WITH_LATE_BLOCKER = (
    "libtorrent-tcp-dial4",
    "libtorrent-utp-dial6",
    "transmission-tcp-told4",
    "aria2-tcp-dialled4",
    "qbittorrent-utp-told6",
    "rtorrent-tcp-told4",
)


class Trials:
    """What the selected tests ask for, tried in groups; most of a trial is waiting."""

    def __init__(self, wanted: set[tuple[str, bool]], *, ordinary: bool, late: bool) -> None:
        jobs = [
            Job(Trial(group, blocked=blocked, observe_s=OBSERVE_S))
            for blocked in (True, False)
            for group in group_cases(
                [case for name, case in CASES.items() if (name, blocked) in wanted], CASES_TOGETHER
            )
        ]
        self._jobs = {
            (case.name, job.trial.blocked): job for job in jobs for case in job.trial.cases
        }
        self._ordinary = Job(
            Trial(
                tuple(select_cases(BESIDE_ORDINARY)),
                blocked=True,
                observe_s=OBSERVE_S,
                ordinary=True,
            )
        )
        self._late = Job(
            Trial(
                tuple(select_cases(WITH_LATE_BLOCKER)),
                blocked=True,
                observe_s=OBSERVE_S,
                size=LATE_SIZE_B,
                late=True,
            )
        )
        special = [*([self._ordinary] if ordinary else []), *([self._late] if late else [])]
        run_jobs([*special, *jobs], at_once=ROUTERS_AT_ONCE)

    def outcome(self, name: str, blocked: bool) -> Outcome:
        """Of a case, without (False) or with (True) the blocker."""
        outcome = self._jobs[name, blocked].outcome(CASES[name])
        assert not outcome.error, outcome.error
        return outcome

    def ordinary(self) -> Result:
        """Of the trial with ordinary traffic."""
        assert self._ordinary.result is not None, self._ordinary.error
        return self._ordinary.result

    def late(self) -> Result:
        """Of the trial whose blocker begins when data is flowing."""
        assert self._late.result is not None, self._late.error
        return self._late.result


TrialOutcome = Callable[[str, bool], Outcome]


@pytest.fixture(scope="session")
def trials(request: pytest.FixtureRequest) -> Trials:
    asking = [
        item
        for item in request.session.items
        if isinstance(item, pytest.Function) and "trials" in item.fixturenames
    ]
    wanted = {
        (item.callspec.params["name"], item.callspec.params["blocked"])
        for item in asking
        if hasattr(item, "callspec")
    }
    fixtures = {name for item in asking for name in item.fixturenames}
    return Trials(wanted, ordinary="ordinary_result" in fixtures, late="late_result" in fixtures)


@pytest.fixture(scope="session")
def trial_outcome(trials: Trials) -> TrialOutcome:
    return trials.outcome


@pytest.fixture(scope="session")
def ordinary_result(trials: Trials) -> Result:
    return trials.ordinary()


@pytest.fixture(scope="session")
def late_result(trials: Trials) -> Result:
    return trials.late()
