"""Ordinary traffic by real programs, of hosts that have nothing to do with BitTorrent.

To add a service: a class with these two methods, and a line in SERVICES.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from subprocess import TimeoutExpired
from typing import Protocol

from tools.lab.ordinary.content import Content
from tools.lab.ordinary.dns import Dns
from tools.lab.ordinary.ssh import Ssh
from tools.lab.ordinary.web import Http, Https, Package, Quic
from tools.lab.ordinary.wireguard import WireGuard
from tools.lab.program import LabError
from tools.lab.topology import Line


class Service(Protocol):
    """A server on the server's side that is running, and a client to use it."""

    def use(self) -> None:
        """Use it once; raises LabError or TimeoutExpired unless all arrives as it was sent."""


SERVICES: dict[str, Callable[[Line, Content], Service]] = {
    "http4": partial(Http, family=4),
    "http6": partial(Http, family=6),
    "package": partial(Package, family=4),
    "tls": partial(Https, family=4),
    "tls6": partial(Https, family=6),
    "ssh": partial(Ssh, family=4),
    "dns": partial(Dns, family=4),
    "quic": partial(Quic, family=4),
    "quic6": partial(Quic, family=6),
    "wireguard": partial(WireGuard, family=4),
}


@dataclass(slots=True)
class Usage:
    """How a service has served so far."""

    service: str
    uses: int = 0
    failures: int = 0
    error: str = ""
    """Of the last failure."""


class OrdinaryTraffic:
    """All services on one line."""

    _PAUSE_S = 2.0

    def __init__(self, line: Line) -> None:
        """Start the servers; raises LabError when one does not get ready."""
        content = Content(line.folder)
        self._services = {name: start(line, content) for name, start in SERVICES.items()}
        self.usages = [Usage(name) for name in SERVICES]
        self._next_s = 0.0

    def flow(self) -> None:
        """Use each service once, one after the other, and note how it went; with pauses."""
        if time.monotonic() < self._next_s:
            return
        for usage in self.usages:
            usage.uses += 1
            try:
                self._services[usage.service].use()
            except (LabError, TimeoutExpired) as error:
                usage.failures += 1
                usage.error = str(error)
        self._next_s = time.monotonic() + self._PAUSE_S
