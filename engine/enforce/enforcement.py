"""Bans, allowed networks and what is kept of them, held together.

Whatever is never banned is not banned from the moment it becomes known: a network that is
allowed, a gateway that changes. Whatever is banned or allowed is known to all that drops
packets, and kept.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterable, Iterator
from typing import Protocol

from engine.config import Network, Settings
from engine.enforce.bans import MANUAL, Ban, BanList, Driver, Enforcer, Growth
from engine.enforce.machine import Machine
from engine.enforce.networks import NetworkSet
from engine.enforce.policy import Policy
from engine.enforce.state import BanState
from engine.enforce.target import address_of, target_text
from engine.errors import InputError
from engine.inspect.judgement import Detection

# Networks that `btblocker allow` may add.
MAX_ALLOWED = 16384

_log = logging.getLogger(__name__)


class PacketPath(Enforcer, Protocol):
    """What drops packets, and lets those of allowed networks pass."""

    def allow_only(self, networks: Iterable[Network], /) -> object: ...


class DriverPath(Driver, Protocol):
    """The same in the driver, where signatures can ban by themselves."""

    def allow_only(
        self, never_banned: Iterable[Network], let_alone: Iterable[Network], /
    ) -> object: ...

    def set_ban_duration(self, duration_s: int, /) -> object: ...


class Enforcement:
    """Punishes detections and obeys the operator. Used from one thread only."""

    def __init__(self, settings: Settings, machine: Machine, queue: PacketPath) -> None:
        """`queue` is what drops packets on their way through the queue."""
        self._settings = settings
        self._machine = machine
        self._queue = queue
        self._driver: DriverPath | None = None
        self._by_hand: dict[Network, float] = {}
        folder = settings.state_directory
        self.state = BanState(folder and folder / f"queue-{settings.queue_num}.sqlite")
        self.bans = BanList(queue, state=self.state)
        self._policy = Policy(settings, machine)

    def begin(self) -> None:
        """Take in what an earlier run has kept."""
        kept = self.state.load()
        self._by_hand = kept.allowed
        if not self._settings.monitor_only:
            self.bans.restore(kept.bans)
        self.configure(self._settings)
        if len(self.bans) or self._by_hand:
            _log.info(
                "%d bans and %d allowed networks are kept from before",
                len(self.bans),
                len(self._by_hand),
            )

    @contextlib.contextmanager
    def also_in(self, driver: DriverPath) -> Iterator[None]:
        """Enforce bans of whole addresses in the driver as well, as long as this is open."""
        self._driver = driver
        self.bans.use_driver(driver)
        self.configure(self._settings)
        try:
            yield
        finally:
            self.bans.keep_counts()
            self.bans.use_driver(None)
            self._driver = None

    def close(self) -> None:
        """Keep what is left to keep."""
        self.bans.keep_counts()
        self.state.close()

    def configure(self, settings: Settings) -> list[Ban]:
        """Go by other settings from now on; gives the bans of what they allow, which it lifts."""
        self._settings = settings
        self.bans.growth = Growth(
            settings.ban_growth, settings.ban_duration_max, settings.ban_memory
        )
        return self._exempt()

    def take_machine(self, machine: Machine) -> list[Ban]:
        """Addresses, gateways and resolvers have been read again; gives the bans it has lifted."""
        if machine == self._machine:
            return []
        self._machine = machine
        return self._exempt()

    def clean_up(self) -> list[Ban]:
        """End the bans that have run out, and give them."""
        self.bans.keep_counts()
        if self.state.begun_anew:
            self.state.begun_anew = False
            self.bans.keep_all()
            for network, since in self._by_hand.items():
                self.state.allow(network, since)
        return self.bans.expire()

    # --- detections

    def punish(self, detection: Detection) -> list[Ban]:
        """Ban whom a detection bans."""
        if self._settings.monitor_only:
            return []
        return [
            self.bans.offend(sentence.target, detection.signature, sentence.duration_s)
            for sentence in self._policy.sentences(detection)
        ]

    # --- the operator

    def ban(self, target: bytes, duration_s: int | None = None, reason: str = MANUAL) -> Ban:
        """Ban a target by hand. Raises InputError for one that is never banned."""
        if self._settings.monitor_only:
            raise InputError("this blocker only monitors: it bans nobody")
        if why := self._policy.why_exempt(address_of(target)):
            raise InputError(f"{target_text(target)} {why}")
        return self.bans.ban(target, duration_s or self._settings.ban_duration, reason)

    def unban(self, target: bytes) -> Ban:
        """Lift a ban, and give it. Raises InputError if there is none."""
        ban = self.bans.unban(target)
        if ban is None:
            raise InputError(f"{target_text(target)} is not banned")
        return ban

    def allowed(self) -> list[tuple[Network, float | None]]:
        """The allowed networks, and when each was added by hand: None for the configuration's."""
        return [*((net, None) for net in self._settings.allow), *self._by_hand.items()]

    def allow(self, networks: Iterable[Network]) -> list[Ban]:
        """Let all traffic of networks pass for good; gives the bans that this has lifted.

        Raises InputError when there is no room for more.
        """
        now = time.time()
        new = dict.fromkeys(networks, now)
        if len(new.keys() | self._by_hand.keys()) > MAX_ALLOWED:
            raise InputError(f"no more than {MAX_ALLOWED} networks can be allowed by hand")
        for network in new:
            self.state.allow(network, now)
        self._by_hand |= new
        return self._exempt()

    def disallow(self, network: Network) -> None:
        """Take back what was allowed by hand. Raises InputError if it was not."""
        if self._by_hand.pop(network, None) is None:
            if network in self._settings.allow:
                raise InputError(f"the configuration allows {network}: take it out there, reload")
            raise InputError(f"{network} is not allowed; `btblocker allow` lists what is")
        self.state.disallow(network)
        self._exempt()

    def _exempt(self) -> list[Ban]:
        """Tell all who is never banned, and lift their bans."""
        allowed = (*self._settings.allow, *self._by_hand)
        self._policy = Policy(self._settings, self._machine, allowed)
        self._queue.allow_only(allowed)
        if self._driver is not None:
            self._driver.allow_only(self._policy.exempt_networks(), allowed)
            self._driver.set_ban_duration(self._policy.driver_ban_s)
        return self.bans.unban_in(NetworkSet((*allowed, *self._policy.exempt_networks())))
