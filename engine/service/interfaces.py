"""Which interfaces XDP goes on when nobody says."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Sequence

from engine.errors import InputError, UnavailableError


def chosen_interfaces(wanted: Sequence[str]) -> tuple[str, ...]:
    """The interfaces named, or else those with a default route, or else all but loopback.

    Raises InputError for a name that does not exist.
    """
    existing = [name for _, name in socket.if_nameindex()]
    for name in wanted:
        if name not in existing:
            raise InputError(f"there is no interface `{name}`; there are: {', '.join(existing)}")
    if wanted:
        return tuple(dict.fromkeys(wanted))
    outside = {route["dev"] for route in _default_routes() if "dev" in route}
    return tuple(name for name in existing if name in outside) or tuple(
        name for name in existing if name != "lo"
    )


def _default_routes() -> list[dict[str, str]]:
    routes: list[dict[str, str]] = []
    for family in ("-4", "-6"):
        try:
            answer = subprocess.run(
                ["ip", "-json", family, "route", "show", "default"],
                capture_output=True,
                check=True,
                timeout=10,
            )
            routes += json.loads(answer.stdout or b"[]")
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            raise UnavailableError(f"cannot read the routes: {error}") from error
    return routes
