"""The tier in the driver, as the daemon begins and replaces it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from engine.config import Settings
from engine.enforce.attachment import XdpMode
from engine.enforce.enforcement import Enforcement
from engine.enforce.pins import Pins, why_not_kept
from engine.enforce.program import XdpProgram
from engine.enforce.xdp import XdpFilter
from engine.errors import UnavailableError
from engine.service.builder import Built
from engine.service.events import Events
from engine.service.interfaces import WatchedInterfaces, chosen_interfaces

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DriverTier:
    """XDP, and the interfaces that it is kept on; `decides`: signatures in it were asked for."""

    xdp: XdpFilter
    interfaces: WatchedInterfaces
    decides: bool

    def replace(self, built: Built) -> None:
        """Swap the program for one with new signatures, if it has any. Raises UnavailableError."""
        program = _program(built)
        if program is not None:
            self.xdp.replace(program)

    def describe(self) -> Iterator[str]:
        """What it is on, waits for and decides by itself."""
        for attachment in self.xdp.attachments:
            yield f"XDP {attachment.mode} on {attachment.interface}"
        if self.interfaces.missing:
            yield f"waiting for {', '.join(self.interfaces.missing)}"
        if self.decides:
            yield f"{len(self.xdp.signatures)} signatures in the driver, too"


def begin_driver(
    held: ExitStack, settings: Settings, built: Built, enforcement: Enforcement, events: Events
) -> DriverTier | None:
    """The tier, until `held` is closed; None if it is not wanted, or not to be had here.

    Raises UnavailableError.
    """
    pins = Pins(settings.queue_num)
    xdp = _load(held, settings, built, pins, events)
    if xdp is None:
        # Nobody would end the bans of what was kept, or hear of it.
        pins.drop_others()
        return None
    # First the bans, so that no packet of theirs passes where a kept program is replaced.
    held.enter_context(enforcement.also_in(xdp))
    interfaces = WatchedInterfaces(xdp, chosen_interfaces(settings.interface), events)
    interfaces.begin()
    return DriverTier(xdp, interfaces, settings.xdp_signatures)


def _load(
    held: ExitStack, settings: Settings, built: Built, pins: Pins, events: Events
) -> XdpFilter | None:
    if settings.xdp_mode == "off" or settings.monitor_only:
        return None
    keep = settings.keep_xdp
    if keep and (reason := why_not_kept()):
        events.trouble("xdp", f"{reason}; XDP ends with this process")
        keep = False
    if keep and settings.state_directory is None:
        _log.warning("without --state-directory the next start knows no bans, and lifts these")
    try:
        mode = XdpMode(settings.xdp_mode)
        return held.enter_context(XdpFilter(mode, _program(built), pins=pins, keep=keep))
    except UnavailableError as error:
        events.trouble("xdp", f"Failed to initialize XDP filter: {error}")
        _log.warning("going on with NFQUEUE alone: every packet is dropped there")
        return None


def _program(built: Built) -> XdpProgram | None:
    """The program for the driver's signatures, if it was asked for.

    Raises UnavailableError where this machine cannot build it.
    """
    if built.driver is None:
        return None
    if built.driver.program is None:
        raise UnavailableError(built.driver.failure)
    for warning in built.driver.warnings:
        _log.warning("%s", warning)
    return built.driver.program
