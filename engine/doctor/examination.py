"""All looks at the machine, in the order in which one depends on another."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from engine.config import Settings
from engine.doctor.finding import Finding, problem
from engine.doctor.interfaces import interfaces
from engine.doctor.keeping import keeping
from engine.doctor.kernel import kernel, rules_possible, xdp_possible
from engine.doctor.network import network
from engine.doctor.privileges import privileges
from engine.doctor.queue import queue, rules
from engine.doctor.software import signatures, versions
from engine.errors import BtblockerError

_CHECKS: dict[str, tuple[Callable[[Settings], Iterator[Finding]], ...]] = {
    "privileges": (privileges,),
    "software": (versions, signatures),
    "kernel": (kernel, rules_possible, xdp_possible),
    "interfaces": (interfaces,),
    "network": (network,),
    "queue": (queue, rules),
    "state": (keeping,),
}


def examine(settings: Settings) -> Iterator[tuple[str, Finding]]:
    """Topics and findings. Changes nothing; takes some seconds."""
    for topic, checks in _CHECKS.items():
        for check in checks:
            try:
                for finding in check(settings):
                    yield topic, finding
            except BtblockerError as error:
                yield topic, problem(str(error))
