"""How the XDP program comes onto an interface: which function, which hook, and why not."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
import struct
import subprocess
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from engine.enforce.bpf import BlockerProgram
from engine.enforce.compilation import NEEDS_ROOT
from engine.enforce.pins import Hook, Pins, Place
from engine.errors import InputError, UnavailableError

_log = logging.getLogger(__name__)

# Functions in bpf/blocker.bpf.c, by what a packet begins with.
_ETHERNET_FUNCTION = "btblocker_eth"
_IP_FUNCTION = "btblocker_ip"
FUNCTION_PREFIX = "btblocker_"

# ARPHRD types, include/uapi/linux/if_arp.h.
_ETHERNET_LINKS = {1, 772}  # ETHER, LOOPBACK
_IP_LINKS = {
    512,  # PPP
    519,  # RAWIP: mobile modems
    768,  # TUNNEL: IPIP
    769,  # TUNNEL6
    776,  # SIT
    778,  # IPGRE
    823,  # IP6GRE
    65534,  # NONE: TUN, WireGuard
}

_SIOCGIFHWADDR = 0x8927  # include/uapi/linux/sockios.h
_XDP_FLAGS: dict[Hook, int] = {"native": 1 << 2, "generic": 1 << 1}  # include/uapi/linux/if_link.h


class XdpMode(StrEnum):
    """Where the program runs; AUTO is native where the driver can, else generic."""

    AUTO = "auto"
    NATIVE = "native"
    GENERIC = "generic"
    OFF = "off"


# In the order to try.
_ATTEMPTS: dict[XdpMode, tuple[Hook, ...]] = {
    XdpMode.AUTO: ("native", "generic"),
    XdpMode.NATIVE: ("native",),
    XdpMode.GENERIC: ("generic",),
}


@dataclass(frozen=True, slots=True)
class Link:
    """The program's function on an interface; `was_kept` if an earlier blocker had put it there."""

    interface: str
    function: str
    place: Place
    fd: int
    was_kept: bool = False


def attach(program: BlockerProgram, interface: str, mode: XdpMode, pins: Pins | None) -> Link:
    """Put the program on an interface, in place of ours that is kept there.

    Raises InputError if it does not exist, UnavailableError for what it cannot do.
    """
    index = _index(interface)
    function = function_for(interface)
    if pins is not None:
        link = _taken_over(program, interface, function, index, mode, pins)
        if link is not None:
            return link
    attempts = _ATTEMPTS[mode]
    for attempt in attempts:
        try:
            link_fd = program.link(function, index, _XDP_FLAGS[attempt])
        except OSError as refusal:
            _refuse_occupied(interface)
            if attempt != attempts[-1]:
                _log.debug("%s: no %s XDP: %s", interface, attempt, refusal.strerror)
                continue
            raise _refused(interface, attempt, refusal) from refusal
        return Link(interface, function, Place(index, attempt), link_fd)
    raise AssertionError("there is no mode without an attempt")


def _taken_over(
    program: BlockerProgram, interface: str, function: str, index: int, mode: XdpMode, pins: Pins
) -> Link | None:
    """The kept link of an interface, running our program; one in another mode is dropped."""
    for hook in _ATTEMPTS[mode]:
        place = Place(index, hook)
        link_fd = pins.take(place)
        if link_fd is None:
            continue
        try:
            program.switch(link_fd, function)
        except OSError as refusal:
            os.close(link_fd)
            _log.debug("%s: what was kept is of no use: %s", interface, refusal.strerror)
            continue
        return Link(interface, function, place, link_fd, was_kept=True)
    for hook in _XDP_FLAGS:
        pins.drop(Place(index, hook))
    return None


def _index(interface: str) -> int:
    try:
        return socket.if_nametoindex(interface)
    except OSError:
        raise no_such_interface(interface) from None


def no_such_interface(interface: str) -> InputError:
    """Says so, and which there are."""
    present = ", ".join(sorted(name for _, name in socket.if_nameindex()))
    return InputError(f"there is no interface {interface!r} on this machine; it has: {present}")


def function_for(interface: str) -> str:
    """The BPF function that reads what this interface receives. Raises as `attach` does."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            # Not /sys: it shows the network namespace it was mounted in, maybe not ours.
            # struct ifreq: the name, then a sockaddr whose family is the ARPHRD type.
            request = struct.pack("16s24x", interface.encode())
            reply = fcntl.ioctl(any_socket, _SIOCGIFHWADDR, request)
        except OSError:
            raise no_such_interface(interface) from None
    (link_type,) = struct.unpack_from("=H", reply, 16)
    if link_type in _ETHERNET_LINKS:
        return _ETHERNET_FUNCTION
    if link_type in _IP_LINKS:
        return _IP_FUNCTION
    raise UnavailableError(
        f"{interface}: XDP cannot read links of type {link_type}"
        " (neither Ethernet nor bare IP packets); leave it out of --interface"
    )


def occupant(interface: str) -> tuple[str, int] | None:
    """Name and id of the XDP program that is on an interface."""
    shown = subprocess.run(
        ["ip", "-json", "-details", "link", "show", "dev", interface],
        capture_output=True,
        check=False,
    )
    xdp = json.loads(shown.stdout)[0].get("xdp") if shown.returncode == 0 else None
    if xdp is None:
        return None
    program: dict[str, Any] = xdp["attached"][0]["prog"]
    return program.get("name", "without a name"), program["id"]


def _refuse_occupied(interface: str) -> None:
    """Raise UnavailableError if an XDP program is on the interface already."""
    there = occupant(interface)
    if there is None:
        return
    name, number = there
    if name.startswith(FUNCTION_PREFIX):
        raise UnavailableError(
            f"{interface}: another btblocker runs here (XDP program {name}, id {number}); stop it"
            " first, or, where none runs and one was kept, say `btblocker detach --queue-num N`"
        )
    raise UnavailableError(
        f"{interface}: the XDP program {name} (id {number}) is there already and was left alone;"
        f" to take it off: ip link set dev {interface} xdp off"
    )


def _refused(interface: str, mode: str, refusal: OSError) -> UnavailableError:
    if refusal.errno == errno.EPERM:
        return UnavailableError(NEEDS_ROOT)
    hint = "; try --xdp-mode auto or generic" if mode == "native" else ""
    return UnavailableError(f"{interface}: {mode} XDP is refused: {refusal.strerror}{hint}")
