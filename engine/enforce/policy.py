"""Whom a detection bans and for how long, and who is never banned."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network

from engine.config import BanTarget, Network, Settings
from engine.enforce.machine import Machine
from engine.enforce.networks import NO_HOST, NetworkSet
from engine.inspect.judgement import Detection
from engine.inspect.packet import Endpoint

_NO_HOST = NetworkSet(NO_HOST)


@dataclass(frozen=True, slots=True)
class Sentence:
    """A target to ban, and how long for its first offence."""

    target: bytes
    duration_s: int


class Policy:
    """What the configuration and the signatures say of bans, on this machine, at this time.

    Never banned are: this machine, its gateways and resolvers; addresses that name no single
    remote host (loopback, link-local, multicast, broadcast, unspecified); and allowed networks.
    Nor does a packet inside a tunnel ban anybody: its own addresses are not on the wire, where
    XDP looks for them, and may be somebody else's there; and the tunnel's end carries others'
    packets as well.
    """

    def __init__(
        self, settings: Settings, machine: Machine, allowed: tuple[Network, ...] = ()
    ) -> None:
        self._settings = settings
        self._machine = machine
        self._home = NetworkSet(settings.home_networks)
        self.allowed = allowed
        self._allowed = NetworkSet(allowed)

    def sentences(self, detection: Detection) -> tuple[Sentence, ...]:
        """Whom a detection bans: nobody, or one or two targets."""
        if detection.action != "block" or detection.tunnelled or not self._is_proof(detection):
            return ()
        settings, ban = self._settings, detection.ban
        of = (ban and ban.of) or settings.ban
        duration_s = (ban and ban.lasts_s) or settings.ban_duration
        return tuple(
            Sentence(end.address + (_port(end) if of == "endpoint" else b""), duration_s)
            for end in self._ends(of, detection)
            if not self.why_exempt(end.address)
        )

    def why_exempt(self, address: bytes) -> str:
        """Why an address must never be banned, in words; nothing where it may be."""
        if role := self._machine.role(address):
            return f"is {role}"
        if address in _NO_HOST:
            return "names no host"
        return "is allowed" if address in self._allowed else ""

    @property
    def driver_ban_s(self) -> int:
        """How long signatures in the driver ban the source, at first; 0 where they must not.

        They know neither flows nor home networks, and no bans but those of whole addresses.
        """
        settings = self._settings
        is_theirs = settings.ban == "source" and settings.udp_bans == "immediate"
        return settings.ban_duration if is_theirs else 0

    def exempt_networks(self) -> list[Network]:
        """Who must never be banned, apart from the allowed networks."""
        return [*NO_HOST, *map(ip_network, self._machine.addresses)]

    def _is_proof(self, detection: Detection) -> bool:
        if self._settings.udp_bans == "confirmed":
            return detection.two_way
        return not detection.repeated

    def _ends(self, of: BanTarget, detection: Detection) -> tuple[Endpoint, ...]:
        source, destination = detection.source, detection.destination
        match of:
            case "none":
                return ()
            case "both":
                return (source, destination)
            case "remote":
                remote = tuple(end for end in (source, destination) if not self._at_home(end))
                # Of two strangers, neither is known to be the customer.
                return remote if len(remote) < 2 else (source,)
            case "source" | "endpoint":
                return (source,)

    def _at_home(self, end: Endpoint) -> bool:
        return end.address in self._home or end.address in self._machine.own


def _port(end: Endpoint) -> bytes:
    return end.port.to_bytes(2, "big")
