"""The interfaces that XDP is to watch."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Iterator

from engine.config import Settings
from engine.doctor.finding import Finding, ok, problem, warning
from engine.doctor.queue import running
from engine.doctor.xdp_features import has_native_xdp
from engine.enforce.attachment import FUNCTION_PREFIX, function_for, occupant
from engine.enforce.pins import Pins
from engine.errors import InputError, UnavailableError
from engine.service.interfaces import chosen_interfaces

# As `ethtool -k` calls them: they put packets together, or forward them, before XDP sees them.
_HIDING = {
    "large-receive-offload": "lro",
    "rx-gro-hw": "rx-gro-hw",
    "hw-tc-offload": "hw-tc-offload",
}


def interfaces(settings: Settings) -> Iterator[Finding]:
    """Whether each is there and can have XDP. Raises UnavailableError."""
    if settings.xdp_mode == "off" or settings.monitor_only:
        return
    runs = running(settings) is not None
    names = chosen_interfaces(settings.interface)
    for name in names:
        yield from _interface(name, settings, runs=runs)
    if not runs:
        for place in Pins(settings.queue_num).places():
            yield warning(
                f"XDP is kept on {place}, with the bans of an earlier run",
                "the next start takes it over; to take it off: btblocker detach",
            )


def _interface(name: str, settings: Settings, *, runs: bool) -> Iterator[Finding]:
    try:
        function_for(name)
    except InputError as error:
        yield problem(
            str(error), "mend --interface; if it is to appear later, XDP goes on it by itself"
        )
        return
    except UnavailableError as error:
        yield problem(str(error))
        return
    there = occupant(name)
    if there is not None and not there[0].startswith(FUNCTION_PREFIX):
        yield problem(
            f"{name}: the XDP program {there[0]} (id {there[1]}) of somebody else is there",
            f"if nobody needs it: ip link set dev {name} xdp off; or leave {name} out of"
            " --interface",
        )
    elif there is not None:
        yield ok(f"{name}: our XDP program is on it")
    elif runs:
        yield problem(f"{name}: btblocker runs, but not on it", "see its log, or restart it")
    else:
        yield _mode(name, settings)
    yield from _offloads(name)


def _mode(name: str, settings: Settings) -> Finding:
    native = has_native_xdp(socket.if_nametoindex(name))
    if native is False and settings.xdp_mode == "native":
        return problem(
            f"{name}: its driver has no native XDP", "--xdp-mode auto takes the generic one"
        )
    mode = {True: "native XDP", False: "generic XDP alone", None: "native XDP, or generic"}
    return ok(f"{name}: {mode[native]} is possible")


def _offloads(name: str) -> Iterator[Finding]:
    try:
        shown = subprocess.run(["ethtool", "-k", name], capture_output=True, text=True, check=True)
    except FileNotFoundError:
        yield warning(f"{name}: cannot look for offloads", "apt-get install ethtool")
        return
    except subprocess.CalledProcessError:  # it has none
        return
    for feature, flag in _HIDING.items():
        if re.search(rf"^\s*{feature}: on\b", shown.stdout, re.MULTILINE):
            yield warning(
                f"{name}: {feature} is on; packets may not be seen one by one, or not at all",
                f"ethtool -K {name} {flag} off",
            )
