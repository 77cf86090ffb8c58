"""Whether packets come to the queue, and who takes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.config import Settings
from engine.doctor.finding import Finding, ok, problem, warning
from engine.enforce.redirect import redirect_for
from engine.errors import UnavailableError
from engine.service.control import ask
from engine.sources.nfqueue import PROC_STATISTICS


def running(settings: Settings) -> dict[str, Any] | None:
    """The status of the blocker on this queue, if one runs and answers."""
    try:
        return ask(settings.queue_num, {"command": "status"})
    except UnavailableError:
        return None


def queue(settings: Settings) -> Iterator[Finding]:
    """Who is bound to the queues."""
    status = running(settings)
    bound = _bound()
    for number in settings.queues:
        holder = bound.get(number)
        if status is not None and holder is not None:
            yield ok(f"queue {number}: btblocker listens (pid {status['pid']})")
        elif status is not None:
            yield problem(
                f"queue {number}: btblocker runs, and nobody listens on it",
                "see its log; give --workers as it was started with",
            )
        elif holder is not None:
            yield problem(
                f"queue {number}: {_who(holder)} listens on it, which is no btblocker",
                "stop that program, or choose another --queue-num",
            )
        else:
            yield warning(
                f"queue {number}: no btblocker runs", "systemctl start btblocker, or btblocker run"
            )


def rules(settings: Settings) -> Iterator[Finding]:
    """Whether our rules are in place. Raises UnavailableError where iptables cannot say."""
    redirect = redirect_for(settings)
    lacking, status = redirect.missing(), running(settings)
    apply = "btblocker rules apply, with the settings of `run`"
    if not lacking:
        if status is None and not settings.fail_open:
            yield problem(
                "the rules are in place, nobody listens, and they are not fail-open: what they"
                " match is dropped",
                "start btblocker, or: btblocker rules remove",
            )
        else:
            yield ok("the rules are in place")
    elif not set(lacking).issuperset(
        rule for rule in redirect.rules() if rule.startswith("iptables ")
    ):
        yield problem(f"of the rules some are missing: {'; '.join(lacking)}", apply)
    elif status is None:
        yield warning("the rules are not in place", f"run --manage-rules adds them, or: {apply}")
    elif status["queue"]["packets"]:
        yield ok("packets come to the queue by rules other than ours")
    else:
        yield problem("btblocker runs, but no rule brings it packets", apply)


def _bound() -> dict[int, int]:
    """Who is bound to each queue, by netlink port: most often the number of the process."""
    try:
        lines = PROC_STATISTICS.read_text().splitlines()
    except FileNotFoundError:  # the module is not loaded yet
        return {}
    return {int(words[0]): int(words[1]) for words in map(str.split, lines)}


def _who(port: int) -> str:
    try:
        name = Path(f"/proc/{port}/comm").read_text().strip()
    except OSError:
        return f"a process with netlink port {port}"
    return f"{name} (pid {port})"
