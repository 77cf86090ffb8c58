"""What the service manager hears: sd_notify(3), one datagram for each piece of news."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import MutableMapping

_log = logging.getLogger(__name__)


class ServiceManager:
    """Tells systemd that we are ready, reload, stop, and live; silent where nobody asked."""

    def __init__(self, environment: MutableMapping[str, str] = os.environ) -> None:
        """Takes its variables out of the environment: they are not for processes of ours."""
        address = environment.pop("NOTIFY_SOCKET", "")
        watchdog_us = environment.pop("WATCHDOG_USEC", "")
        watched = environment.pop("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.alive_interval_s: float | None = None
        """How often `alive` is to be called at least: half of what the watchdog allows."""
        if watched and watchdog_us.isdecimal() and int(watchdog_us) > 0:
            self.alive_interval_s = int(watchdog_us) / 2e6
        self._next_alive_s = 0.0

    def starting(self, status: str) -> None:
        """What takes so long."""
        self._tell(f"STATUS={status}")

    def ready(self, status: str) -> None:
        """Packets are inspected; or a reload is over."""
        self._tell("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """Until `ready` is called again."""
        # systemd compares the time with that of its own request.
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self._tell("STOPPING=1", "STATUS=stopping")

    def alive(self) -> None:
        """Keep the watchdog quiet. To be called by what must not hang, as often as it likes."""
        if self.alive_interval_s is None or time.monotonic() < self._next_alive_s:
            return
        self._next_alive_s = time.monotonic() + self.alive_interval_s
        self._tell("WATCHDOG=1")

    def _tell(self, *news: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.setblocking(False)
            try:
                manager.sendto("\n".join(news).encode(), self._address)
            except OSError as error:
                _log.debug("the service manager does not hear: %s", error)
