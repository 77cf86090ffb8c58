"""All trials of a session run side by side, before the first test asks for one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tools.lab.cases import CASES
from tools.lab.parallel import Job, run_jobs
from tools.lab.trial import Outcome, Trial

AT_ONCE = 5
OBSERVE_S = 30.0

TrialOutcome = Callable[[str, bool], Outcome]


@pytest.fixture(scope="session")
def trial_outcome(request: pytest.FixtureRequest) -> TrialOutcome:
    """The outcome of a case, without (False) or with (True) the blocker.

    Only what the selected tests ask for is tried; most of a trial is waiting.
    """
    wanted = {
        (item.callspec.params["name"], item.callspec.params["blocked"])
        for item in request.session.items
        if isinstance(item, pytest.Function) and "trial_outcome" in item.fixturenames
    }
    jobs = {
        (name, blocked): Job(Trial(CASES[name], blocked=blocked, observe_s=OBSERVE_S))
        for name, blocked in sorted(wanted)
    }
    run_jobs(
        sorted(jobs.values(), key=lambda job: job.trial.limit_s, reverse=True), at_once=AT_ONCE
    )

    def outcome(name: str, blocked: bool) -> Outcome:
        job = jobs[name, blocked]
        assert job.outcome is not None, job.error
        return job.outcome

    return outcome
