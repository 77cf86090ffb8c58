"""The XDP tier: drops what is banned, and what its signatures match, at the driver hook."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from engine.compiler.driver import DriverSignature
from engine.config import Network
from engine.enforce.attachment import Link, XdpMode, attach
from engine.enforce.bpf import BanEntry, BlockerProgram, RejectedError
from engine.enforce.pins import Hook, Pins
from engine.enforce.program import XdpProgram, build_program
from engine.errors import UnavailableError
from engine.inspect.packet import Packet

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Attachment:
    """One interface that the program watches."""

    interface: str
    mode: Hook
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


class XdpFilter:
    """Bans in the kernel: on the interfaces that it is attached to, while this object is open.

    Where links are kept, they stay attached after it. Every interface shares the same bans. Use
    it as a context manager, and from one thread: calls are not synchronized. A forked child may
    call `ban`, `unban`, `banned` and `counters`; its `close` leaves the parent's programs
    attached.
    """

    def __init__(
        self,
        mode: XdpMode,
        program: XdpProgram | None = None,
        *,
        pins: Pins | None = None,
        keep: bool = False,
    ) -> None:
        """Load the program, on no interface yet.

        `program` is from `build_program`; without one it is built, without signatures. Those do
        nothing before `set_ban_duration`. What an earlier filter has kept among the `pins` is
        taken over by `attach`; with `keep`, this one's links are kept there, too.

        Raises UnavailableError for what this machine cannot do.
        """
        if mode is XdpMode.OFF:
            raise ValueError("XDP is off: do not build a filter")
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
        self._mode = mode
        self._pins = pins
        self._keeps = keep
        self._links: dict[str, Link] = {}

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
            Attachment(link.interface, link.place.hook, self._program.program_id(link.function))
            for link in self._links.values()
        )

    def attach(self, interface: str) -> Attachment:
        """Go onto an interface, once what is banned and allowed is known: it is in force at once.

        Raises InputError if it does not exist, UnavailableError for what it cannot do.
        """
        link = attach(self._program, interface, self._mode, self._pins)
        self._links[interface] = link
        if self._pins is not None and self._keeps != link.was_kept:
            if self._keeps:
                try:
                    self._pins.keep(link.fd, link.place)
                except OSError as refusal:
                    _log.warning("%s: XDP will not outlive us: %s", interface, refusal)
            else:
                self._pins.forget(link.place)
        return self.attachments[-1]

    def detach(self, interface: str) -> None:
        """Leave an interface; fine if it is gone, or was never attached to."""
        link = self._links.pop(interface, None)
        if link is None:
            return
        # Children may hold the link too, so the owner does not wait to be the last.
        if os.getpid() == self._owner_pid:
            self._program.unlink(link.fd)
            if self._pins is not None:
                self._pins.forget(link.place)
        os.close(link.fd)

    def drop_kept(self) -> None:
        """Detach what an earlier filter has kept on other interfaces than these."""
        if self._pins is not None:
            self._pins.drop_others([link.place for link in self._links.values()])

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
        for link in self._links.values():
            try:
                self._program.switch(link.fd, link.function)
            except OSError as refusal:
                _log.warning("%s: the old XDP program stays: %s", link.interface, refusal.strerror)

    def close(self) -> None:
        """Detach from every interface, where links are not kept. Safe to call again."""
        if self._keeps and self._links and os.getpid() == self._owner_pid:
            # Nobody hears of what signatures in the driver would ban from now on.
            self.set_ban_duration(0)
        for interface, link in list(self._links.items()):
            if self._keeps:
                os.close(link.fd)
            else:
                self.detach(interface)
        self._links.clear()
        self._program.close()


def _is_within(network: Network, others: Iterable[Network]) -> bool:
    return any(
        network.version == other.version and network.subnet_of(other)  # type: ignore[arg-type]
        for other in others
    )
