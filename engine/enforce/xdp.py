"""The XDP tier: drops what is banned at the driver hook of each interface."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
import struct
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Literal, Self

from engine.enforce.bpf import NEEDS_ROOT, BlockerProgram
from engine.errors import InputError, UnavailableError

_log = logging.getLogger(__name__)

DEFAULT_CAPACITY = 262_144

# Functions in bpf/blocker.bpf.c, by what a packet begins with.
_ETHERNET_FUNCTION = "btblocker_eth"
_IP_FUNCTION = "btblocker_ip"
_FUNCTION_PREFIX = "btblocker_"

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
_XDP_FLAGS = {"native": 1 << 2, "generic": 1 << 1}  # include/uapi/linux/if_link.h


class XdpMode(StrEnum):
    """Where the program runs; AUTO is native where the driver can, else generic."""

    AUTO = "auto"
    NATIVE = "native"
    GENERIC = "generic"
    OFF = "off"


_Hook = Literal["native", "generic"]

# In the order to try.
_ATTEMPTS: dict[XdpMode, tuple[_Hook, ...]] = {
    XdpMode.AUTO: ("native", "generic"),
    XdpMode.NATIVE: ("native",),
    XdpMode.GENERIC: ("generic",),
}


@dataclass(frozen=True, slots=True)
class Attachment:
    """One interface that the program watches."""

    interface: str
    mode: _Hook
    program_id: int


@dataclass(frozen=True, slots=True)
class XdpCounters:
    """Packets since the filter was loaded, over all interfaces."""

    passed: int
    dropped_source: int
    dropped_destination: int


class XdpFilter:
    """Bans in the kernel: attached while this object is open, and never longer.

    Every interface shares the same bans. Use it as a context manager, and from one thread:
    calls are not synchronized. A forked child may call `ban`, `unban`, `banned` and
    `counters`; its `close` leaves the parent's programs attached.
    """

    def __init__(
        self, interfaces: Sequence[str], mode: XdpMode, *, capacity: int = DEFAULT_CAPACITY
    ) -> None:
        """Compile, load and attach to every interface, or raise and leave nothing attached.

        `capacity` is the number of bans per IP version; the least recently used give way.

        Raises InputError for an interface that does not exist, UnavailableError for what
        this machine or an interface cannot do.
        """
        if mode is XdpMode.OFF:
            raise ValueError("XDP is off: do not build a filter")
        functions = {name: _function_for(name) for name in dict.fromkeys(interfaces)}
        self._program = BlockerProgram(set(functions.values()), capacity)
        self._owner_pid = os.getpid()
        self._links: list[int] = []
        self._attachments: list[Attachment] = []
        try:
            for interface, function in functions.items():
                self._attach(interface, function, mode)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def attachments(self) -> tuple[Attachment, ...]:
        return tuple(self._attachments)

    def ban(self, address: bytes, expires_ns: int) -> None:
        """Drop packets from and to `address` until CLOCK_MONOTONIC reaches `expires_ns`.

        `address` is 4 or 16 bytes in network order. A later call replaces the expiry.
        """
        self._program.put(address, expires_ns)

    def unban(self, address: bytes) -> bool:
        """Let `address` pass again; returns whether it was in the map."""
        return self._program.delete(address)

    def banned(self) -> Iterator[tuple[bytes, int]]:
        """Each (address, expires_ns) in the maps, those that have expired included."""
        return self._program.bans()

    def counters(self) -> XdpCounters:
        return XdpCounters(*self._program.outcomes())

    def close(self) -> None:
        """Detach from every interface and free the maps. Safe to call again."""
        for link_fd in self._links:
            # Children may hold the link too, so the owner does not wait to be the last.
            if os.getpid() == self._owner_pid:
                self._program.unlink(link_fd)
            os.close(link_fd)
        self._links.clear()
        self._attachments.clear()
        self._program.close()

    def _attach(self, interface: str, function: str, mode: XdpMode) -> None:
        attempts = _ATTEMPTS[mode]
        for attempt in attempts:
            index = socket.if_nametoindex(interface)
            try:
                link_fd = self._program.link(function, index, _XDP_FLAGS[attempt])
            except OSError as refusal:
                _refuse_occupied(interface)
                if attempt != attempts[-1]:
                    _log.debug("%s: no %s XDP: %s", interface, attempt, refusal.strerror)
                    continue
                raise _refused(interface, attempt, refusal) from refusal
            self._links.append(link_fd)
            program_id = self._program.program_id(function)
            self._attachments.append(Attachment(interface, attempt, program_id))
            return


def _function_for(interface: str) -> str:
    """The BPF function that reads what this interface receives."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            socket.if_nametoindex(interface)
            # Not /sys: it shows the network namespace it was mounted in, maybe not ours.
            # struct ifreq: the name, then a sockaddr whose family is the ARPHRD type.
            request = struct.pack("16s24x", interface.encode())
            reply = fcntl.ioctl(any_socket, _SIOCGIFHWADDR, request)
        except OSError:
            present = ", ".join(sorted(name for _, name in socket.if_nameindex()))
            raise InputError(
                f"there is no interface {interface!r} on this machine; it has: {present}"
            ) from None
    (link_type,) = struct.unpack_from("=H", reply, 16)
    if link_type in _ETHERNET_LINKS:
        return _ETHERNET_FUNCTION
    if link_type in _IP_LINKS:
        return _IP_FUNCTION
    raise UnavailableError(
        f"{interface}: XDP cannot read links of type {link_type}"
        " (neither Ethernet nor bare IP packets); leave it out of --interface"
    )


def _refuse_occupied(interface: str) -> None:
    """Raise UnavailableError if an XDP program is on the interface already."""
    shown = subprocess.run(
        ["ip", "-json", "-details", "link", "show", "dev", interface],
        capture_output=True,
        check=False,
    )
    xdp = json.loads(shown.stdout)[0].get("xdp") if shown.returncode == 0 else None
    if xdp is None:
        return
    program = xdp["attached"][0]["prog"]
    name, number = program.get("name", "without a name"), program["id"]
    if name.startswith(_FUNCTION_PREFIX):
        raise UnavailableError(
            f"{interface}: another btblocker runs here (XDP program {name}, id {number});"
            " stop it first"
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
