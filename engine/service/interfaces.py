"""Which interfaces XDP goes on when nobody says."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from engine.enforce.machine import default_routes
from engine.errors import InputError


def chosen_interfaces(wanted: Sequence[str]) -> tuple[str, ...]:
    """The interfaces named, or else those with a default route, or else all but loopback.

    Raises InputError for a name that does not exist, UnavailableError.
    """
    existing = [name for _, name in socket.if_nameindex()]
    for name in wanted:
        if name not in existing:
            raise InputError(f"there is no interface `{name}`; there are: {', '.join(existing)}")
    if wanted:
        return tuple(dict.fromkeys(wanted))
    outside = {route["dev"] for route in default_routes() if "dev" in route}
    return tuple(name for name in existing if name in outside) or tuple(
        name for name in existing if name != "lo"
    )
