"""The running blocker: what it holds, in which order it comes and goes, what it answers.

Packets go through processes of their own, the workers. Here one thread hears what they detect,
bans, tells, and answers signals and requests, so that nothing needs a lock. What takes long is
done elsewhere (signatures are compiled by another process, a client's socket has its own thread)
and handed over to the loop.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from selectors import EVENT_READ
from typing import Any

from engine.config import BAN_SETTINGS, Settings
from engine.enforce.enforcement import Enforcement
from engine.enforce.machine import read_machine
from engine.enforce.redirect import redirect_for
from engine.errors import InputError, UnavailableError
from engine.inspect.judgement import Detection, tagged_hosts
from engine.service.ban_requests import BanRequests
from engine.service.builder import Build, Built
from engine.service.control import TIMEOUT_S, ControlServer, Deferred
from engine.service.driver import DriverTier, begin_driver
from engine.service.events import Events
from engine.service.exporter import Exporter
from engine.service.interfaces import chosen_interfaces
from engine.service.loop import Loop
from engine.service.losses import Losses
from engine.service.messages import Start
from engine.service.notify import ServiceManager
from engine.service.offload import OffloadedPath
from engine.service.reload import Reloader
from engine.service.snapshot import status_of
from engine.service.status import Status
from engine.service.workers import Workers
from engine.sources.nfqueue import kernel_counters

READY = "btblocker is ready"
# Between two looks at whether all workers are well.
_CHECK_S = 1.0
# Between two looks at what is lost, of packets and of logs.
_WATCH_S = 5.0

_log = logging.getLogger(__name__)


class Daemon:
    """One blocker: queues and their workers, bans, and what enforces them."""

    def __init__(self, settings: Settings, reread: Callable[[], Settings]) -> None:
        """Compile the signatures and read the machine.

        `reread` gives the settings anew, for SIGHUP. Raises SignatureError, InputError.
        """
        self._settings = settings
        self._reread = reread
        self._manager = ServiceManager()
        self._manager.starting("compiling signatures")
        self._built = _build(settings)
        self._events = Events(settings)
        self._losses = Losses(self._events, fail_open=settings.fail_open)
        self._loop = Loop()
        self._driver: DriverTier | None = None
        self._exporter: Exporter | None = None
        self._workers = self._make_workers()
        self._offloaded = (
            OffloadedPath(self._workers, settings.mark_bits) if settings.mark_bits else None
        )
        path = self._workers if self._offloaded is None else self._offloaded
        self._enforcement = Enforcement(settings, read_machine(), path)
        self._reloader = Reloader(self._loop.selector)
        self._reloads = 0
        self._handlers: dict[str, Callable[[dict[str, Any]], Mapping[str, Any] | Deferred]] = {
            "status": lambda _: self._status(),
            "reload": self._request_reload,
            **BanRequests(self._enforcement, self._events).handlers,
        }

    def run(self) -> None:
        """Block until SIGTERM or SIGINT. Raises UnavailableError, InputError at the start."""
        settings = self._settings
        with contextlib.ExitStack() as held:
            held.callback(self._events.close)
            held.callback(self._loop.close)
            stop, reload = self._loop.stop, self._reload_on_signal
            calls = {signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGHUP: reload}
            held.enter_context(self._loop.signals(calls))
            held.callback(self._reloader.close)
            self._enforcement.begin()
            self._events.watch_state(self._enforcement.state.problem)
            held.callback(self._enforcement.close)
            held.enter_context(self._workers)
            self._workers.begin(self._built)
            if self._offloaded is not None:
                held.enter_context(self._offloaded)
            held.enter_context(ControlServer(settings.queue_num, self._answer_in_turn))
            self._driver = begin_driver(
                held, settings, self._built, self._enforcement, self._events
            )
            self._install_rules(held)
            if settings.metrics_listen is not None:
                exporter = Exporter(settings.metrics_listen, self._status_in_turn)
                self._exporter = held.enter_context(exporter)
            _log.info("%s: %s", READY, self._describe())
            attachments = () if self._driver is None else self._driver.xdp.attachments
            self._events.started(settings.queue_num, self._built.signatures, attachments)
            self._manager.ready(self._describe())
            self._repeat()
            self._loop.run()
            _log.info("stopping")
            self._manager.stopping()
            counters, _ = self._workers.counters()
            self._events.stopped(counters.packets, counters.dropped)

    # --- what the workers detect

    def _detected(self, detections: tuple[Detection, ...], datagram: bytes) -> None:
        for detection in detections:
            bans = self._enforcement.punish(detection)
            if bans or not detection.repeated:
                self._events.detected(detection, bans, datagram)

    def _dropped(self, by_target: Mapping[bytes, tuple[int, int]]) -> None:
        self._enforcement.bans.count(by_target)

    def _take_matches(self) -> None:
        """Hear what signatures in the driver have dropped and banned by themselves."""
        if self._driver is None:
            return
        for match in self._driver.xdp.matches():
            then, packet = match.signature.then, match.packet
            if then.tag is not None:
                expires_s = time.monotonic() + then.tag.lasts_s
                for host in tagged_hosts(then.tag, packet):
                    self._workers.tag(host, then.tag.name, expires_s)
            self._detected((match.detection(),), b"")
            if packet.source.address not in self._enforcement.bans:
                # Allowed, or a gateway, since the moment before.
                self._driver.xdp.unban(packet.source.address)

    # --- start and stop

    def _make_workers(self) -> Workers:
        settings = self._settings
        start = Start(
            settings.queue_num,
            settings.workers > 1,
            settings.monitor_only,
            settings.fail_open,
            settings.log_level,
            sends_packets=settings.detection_log is not None,
            max_flows=settings.max_flows,
            mark_bits=settings.mark_bits,
            offload_after=settings.offload_after,
        )
        starts = [replace(start, queue_num=number) for number in settings.queues]
        return Workers(
            starts,
            self._loop.selector,
            self._detected,
            self._dropped,
            lambda: self._enforcement.bans.until_ns(),
            lambda message: self._events.trouble("worker", message),
        )

    def _install_rules(self, held: contextlib.ExitStack) -> None:
        settings = self._settings
        redirect = redirect_for(settings)
        if settings.manage_rules:
            held.enter_context(redirect)
            return
        _log.info("no packet comes here before these rules are in place:")
        for rule in redirect.rules():
            _log.info("  %s", rule)

    def _describe(self) -> str:
        queues = self._settings.queues
        parts = [
            f"queue {queues[0]}" if len(queues) == 1 else f"queues {queues[0]} to {queues[-1]}",
            f"{self._built.signatures} signatures",
        ]
        if self._driver is not None:
            parts += self._driver.describe()
        file = self._enforcement.state.file
        parts.append("bans are not kept" if file is None else f"bans are kept in {file}")
        if self._settings.monitor_only:
            parts.append("monitor only: nothing is dropped")
        return ", ".join(parts)

    # --- what is done now and then

    def _repeat(self) -> None:
        loop = self._loop
        if self._driver is not None:
            loop.selector.register(self._driver.xdp, EVENT_READ, self._take_matches)
        check_s = min(_CHECK_S, self._manager.alive_interval_s or _CHECK_S)
        loop.every(lambda: check_s, self._check)
        loop.every(lambda: _WATCH_S, self._watch)
        loop.every(lambda: self._settings.cleanup_interval, self._clean_up)

    def _check(self) -> None:
        self._workers.check()
        if self._driver is not None:
            self._driver.interfaces.look()
        self._manager.alive()

    def _watch(self) -> None:
        kernel = [kernel_counters(number) for number in self._settings.queues]
        self._losses.look(kernel, self._workers.last_heard())
        if self._exporter is not None and (ended := self._exporter.revive()):
            self._events.trouble("metrics", ended)
        self._events.watch_state(self._enforcement.state.problem)
        self._events.watch()

    def _clean_up(self) -> None:
        def read() -> None:
            machine = read_machine()
            self._loop.post(lambda: self._events.exempted(self._enforcement.take_machine(machine)))
            driver = self._driver
            if driver is not None and not self._settings.interface:
                with contextlib.suppress(UnavailableError):
                    names = chosen_interfaces(())
                    self._loop.post(lambda: driver.interfaces.add(names))

        # It runs programs, which nobody should wait for.
        threading.Thread(target=read, name="machine", daemon=True).start()
        self._take_matches()  # or a ban that was renewed just now would be taken for expired
        self._events.expired(self._enforcement.clean_up())

    # --- reloads

    def _reload_on_signal(self) -> None:
        with contextlib.suppress(InputError):  # told and counted already
            self._reload()

    def _reload(self) -> Path:
        """Open logs anew, and build a new RuleSet beside the running one; settings follow it.

        Gives the folder it is built from. Raises InputError for bad settings.
        """
        began_s = time.monotonic()
        self._reloads += 1
        number = self._reloads
        self._manager.reloading()
        self._events.reopen()

        def ended() -> None:
            if number == self._reloads:  # not where another request waits for its turn
                self._manager.ready(self._describe())

        def refuse(reason: str) -> None:
            self._events.reload_refused(reason, time.monotonic() - began_s)
            ended()

        try:
            settings = self._reread()
        except InputError as error:
            refuse(str(error))
            raise

        def in_force() -> None:
            if self._offloaded is not None:
                self._offloaded.inspect_again()
            self._events.reloaded(self._built.signatures, time.monotonic() - began_s)
            ended()

        def install(built: Built) -> None:
            if self._driver is not None:
                self._take_matches()
                self._driver.replace(built)
            self._built = built
            self._workers.install(built, in_force)
            # What packets, interfaces and rules hang on stays until a restart.
            names = ("signatures", "detection_profile", "cleanup_interval", *BAN_SETTINGS)
            changed = {name: getattr(settings, name) for name in names}
            self._settings = self._settings.model_copy(update=changed)
            self._events.exempted(self._enforcement.configure(self._settings))

        _log.info("reloading signatures from %s", settings.signatures)
        for_driver = self._driver is not None and self._settings.xdp_signatures
        self._reloader.start(
            settings.signatures, settings.detection_profile, for_driver, install, refuse
        )
        return settings.signatures

    def _request_reload(self, _request: dict[str, Any]) -> dict[str, Any]:
        return {"reloading": str(self._reload())}

    # --- requests

    def _answer_in_turn(self, request: dict[str, Any]) -> Mapping[str, Any]:
        """Answer a request; called on a client's thread."""
        handler = self._handlers.get(str(request.get("command")))
        if handler is None:
            raise InputError(f"unknown command; known: {', '.join(self._handlers)}")
        answer = self._loop.ask(lambda: handler(request), TIMEOUT_S)
        return answer() if callable(answer) else answer

    def _status_in_turn(self) -> Status:
        """The status; called on the exporter's thread."""
        return self._loop.ask(self._status, TIMEOUT_S)

    def _status(self) -> Status:
        return status_of(
            self._settings,
            self._workers,
            self._built,
            self._enforcement,
            self._driver,
            self._events,
        )


def _build(settings: Settings) -> Built:
    for_driver = (
        settings.xdp_signatures and settings.xdp_mode != "off" and not settings.monitor_only
    )
    build = Build(settings.signatures, settings.detection_profile, for_driver=for_driver)
    try:
        return build.result()
    finally:
        build.end()
