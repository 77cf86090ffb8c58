"""The XDP tier: drops what is banned, and what its signatures match, at the driver hook."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
import struct
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Literal, Self

from engine.compiler.driver import DriverSignature
from engine.config import Network
from engine.enforce.bpf import BanEntry, BlockerProgram, RejectedError
from engine.enforce.compilation import NEEDS_ROOT
from engine.enforce.program import XdpProgram, build_program
from engine.errors import InputError, UnavailableError
from engine.inspect.packet import Packet

_log = logging.getLogger(__name__)

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
    dropped_signature: int


@dataclass(frozen=True, slots=True)
class DriverMatch:
    """A packet that a signature matched in the driver: it is dropped and its source banned.

    Of the packet there is no payload. `expires_ns` is the end of the ban, on CLOCK_MONOTONIC.
    """

    signature: DriverSignature
    packet: Packet
    expires_ns: int


@dataclass(frozen=True, slots=True)
class _Link:
    interface: str
    function: str
    mode: _Hook
    fd: int


class XdpFilter:
    """Bans in the kernel: attached while this object is open, and never longer.

    Every interface shares the same bans. Use it as a context manager, and from one thread:
    calls are not synchronized. A forked child may call `ban`, `unban`, `banned` and
    `counters`; its `close` leaves the parent's programs attached.
    """

    def __init__(
        self,
        interfaces: Sequence[str],
        mode: XdpMode,
        program: XdpProgram | None = None,
    ) -> None:
        """Load and attach to every interface, or raise and leave nothing attached.

        `program` is from `build_program`; without one it is built, without signatures. Those do
        nothing before `set_ban_duration`.

        Raises InputError for an interface that does not exist, UnavailableError for what
        this machine or an interface cannot do.
        """
        if mode is XdpMode.OFF:
            raise ValueError("XDP is off: do not build a filter")
        functions = {name: _function_for(name) for name in dict.fromkeys(interfaces)}
        if program is None:
            program, _ = build_program()
        try:
            self._program = BlockerProgram(program.bytecode)
        except RejectedError as refusal:
            raise UnavailableError(f"the kernel refuses the XDP program: {refusal}") from refusal
        # By the number in their events. There may be some under way from one that was replaced.
        self._signatures = {program.number: program.signatures}
        self._running = program.number
        self._allowed: dict[Network, bool] = {}
        self._owner_pid = os.getpid()
        self._links: list[_Link] = []
        try:
            for interface, function in functions.items():
                self._links.append(self._attach(interface, function, mode))
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
        return tuple(
            Attachment(link.interface, link.mode, self._program.program_id(link.function))
            for link in self._links
        )

    @property
    def signatures(self) -> tuple[DriverSignature, ...]:
        """Those that the driver decides now."""
        return self._signatures[self._running]

    def ban(self, address: bytes, expires_ns: int) -> None:
        """Drop packets from and to `address` until CLOCK_MONOTONIC reaches `expires_ns`.

        `address` is 4 or 16 bytes in network order. A later call replaces the expiry, and the
        counts go on. Raises OSError when the map is full; it has room for the capacity it was
        built for.
        """
        self._program.put(address, expires_ns)

    def unban(self, address: bytes) -> bool:
        """Let `address` pass again; returns whether it was in the map."""
        return self._program.delete(address)

    def banned(self) -> Iterator[BanEntry]:
        """Each ban in the maps, those that have expired included."""
        return self._program.bans()

    def allow_only(
        self, never_banned: Iterable[Network], let_alone: Iterable[Network] = ()
    ) -> None:
        """Let no ban apply to all of these, and none to whoever speaks with the second.

        No signature in the driver bans the first, nor sees packets from or to the second: those
        are left to the queue. Replaces what was said before.
        """
        wanted = dict.fromkeys(let_alone, True)
        # The longest prefix counts: an address of ours in a network that is let alone is, too.
        wanted |= {network: _is_within(network, list(wanted)) for network in never_banned}
        for network, is_alone in wanted.items():
            if self._allowed.get(network) is not is_alone:
                self._program.allow(network, let_alone=is_alone)
        for network in self._allowed.keys() - wanted.keys():
            self._program.disallow(network)
        self._allowed = wanted

    def set_ban_duration(self, duration_s: int) -> None:
        """How long the bans last that signatures in the driver set; with 0 they set none."""
        self._program.set_ban_duration(duration_s * 10**9)

    def counters(self) -> XdpCounters:
        return XdpCounters(*self._program.outcomes())

    def fileno(self) -> int:
        """Readable when there are matches."""
        return self._program.events_fd()

    def matches(self) -> list[DriverMatch]:
        """What signatures in the driver have matched since the last call."""
        return [
            DriverMatch(
                self._signatures[event.program][event.signature],
                Packet(event.protocol, event.key, b"", 0, 0, 0),
                event.expires_ns,
            )
            for event in self._program.events()
        ]

    def replace(self, program: XdpProgram) -> None:
        """Run another program on every interface, from one packet to the next; bans stay.

        Raises UnavailableError, and leaves the old one running, where the kernel refuses.
        """
        if program.number == self._running:
            return
        try:
            self._program.load(program.bytecode)
        except RejectedError as refusal:
            raise UnavailableError(f"the kernel refuses the XDP program: {refusal}") from refusal
        self._signatures[program.number] = program.signatures
        self._running = program.number
        for link in self._links:
            try:
                self._program.switch(link.fd, link.function)
            except OSError as refusal:
                _log.warning("%s: the old XDP program stays: %s", link.interface, refusal.strerror)

    def close(self) -> None:
        """Detach from every interface and free the maps. Safe to call again."""
        for link in self._links:
            # Children may hold the link too, so the owner does not wait to be the last.
            if os.getpid() == self._owner_pid:
                self._program.unlink(link.fd)
            os.close(link.fd)
        self._links.clear()
        self._program.close()

    def _attach(self, interface: str, function: str, mode: XdpMode) -> _Link:
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
            return _Link(interface, function, attempt, link_fd)
        raise AssertionError("there is no mode without an attempt")


def _is_within(network: Network, others: Iterable[Network]) -> bool:
    return any(
        network.version == other.version and network.subnet_of(other)  # type: ignore[arg-type]
        for other in others
    )


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
