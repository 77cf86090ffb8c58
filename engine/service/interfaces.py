"""Which interfaces XDP goes on, though they may come late, go, and come back."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterable, Sequence

from engine.enforce.machine import default_routes
from engine.enforce.xdp import XdpFilter
from engine.errors import InputError, UnavailableError
from engine.service.events import Events

_log = logging.getLogger(__name__)


class WatchedInterfaces:
    """Keeps XDP on interfaces of these names. `look` is called every second or so."""

    def __init__(self, xdp: XdpFilter, names: Iterable[str], events: Events) -> None:
        self._xdp = xdp
        self._events = events
        # The index that each was last seen with; 0 is none.
        self._known = dict.fromkeys(names, 0)
        self._troubled: set[str] = set()

    @property
    def missing(self) -> list[str]:
        """Those that do not exist now."""
        return [name for name, index in self._known.items() if not index]

    def begin(self) -> None:
        """Go onto those there are, and let go of what an earlier blocker has kept elsewhere."""
        self.look()
        present = ", ".join(name for _, name in socket.if_nameindex())
        for name in self.missing:
            self._trouble(
                name,
                f"there is no interface `{name}`; there are: {present}; XDP goes on it when it"
                " appears",
            )
        self._xdp.drop_kept()

    def add(self, names: Iterable[str]) -> None:
        """Watch these as well."""
        self._known = dict.fromkeys(names, 0) | self._known

    def look(self) -> None:
        """Go onto those that have appeared, and let go of those that are gone."""
        for name, known in self._known.items():
            index = _index(name)
            if index == known:
                continue
            self._known[name] = index
            if known:
                self._let_go(name)
            if index:
                self._attach(name)

    def _attach(self, name: str) -> None:
        try:
            attachment = self._xdp.attach(name)
        except InputError:  # gone again
            self._known[name] = 0
        except (UnavailableError, OSError) as error:
            self._trouble(name, f"Failed to initialize XDP filter: {error}")
            _log.warning("%s goes on with NFQUEUE alone: every packet is dropped there", name)
        else:
            if name in self._troubled:
                self._troubled.remove(name)
                self._events.trouble("xdp", f"XDP {attachment.mode} is on {name} now", over=True)

    def _let_go(self, name: str) -> None:
        self._trouble(name, f"{name} is gone; XDP goes on it when it is back")
        try:
            self._xdp.detach(name)
        except OSError as error:
            _log.warning("%s: what was kept of it stays: %s", name, error)

    def _trouble(self, name: str, message: str) -> None:
        self._troubled.add(name)
        self._events.trouble("xdp", message)


def chosen_interfaces(wanted: Sequence[str]) -> tuple[str, ...]:
    """The interfaces named, or else those with a default route, or else all but loopback.

    Raises UnavailableError.
    """
    if wanted:
        return tuple(dict.fromkeys(wanted))
    existing = [name for _, name in socket.if_nameindex()]
    outside = {
        hop["dev"]
        for route in default_routes()
        for hop in (route, *route.get("nexthops", ()))
        if "dev" in hop
    }
    return tuple(name for name in existing if name in outside) or tuple(
        name for name in existing if name != "lo"
    )


def _index(interface: str) -> int:
    try:
        return socket.if_nametoindex(interface)
    except OSError:
        return 0
