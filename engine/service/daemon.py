"""The running blocker: what it holds, in which order it comes and goes, what it answers.

Packets go through processes of their own, the workers. Here one thread hears what they detect,
bans, tells, and answers signals and requests, so that nothing needs a lock. What takes long is
done elsewhere (signatures are compiled by another process, a client's socket has its own thread)
and handed over by `_post`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from engine.config import BAN_SETTINGS, Settings
from engine.enforce.enforcement import Enforcement
from engine.enforce.machine import read_machine
from engine.enforce.program import XdpProgram
from engine.enforce.redirect import Redirect
from engine.enforce.target import target_text
from engine.enforce.xdp import XdpFilter, XdpMode
from engine.errors import InputError, UnavailableError
from engine.inspect.inspector import Detection
from engine.inspect.judgement import tagged_hosts
from engine.service.ban_requests import BanRequests
from engine.service.builder import Build, Built
from engine.service.control import TIMEOUT_S, ControlServer, Deferred
from engine.service.events import Events
from engine.service.interfaces import chosen_interfaces
from engine.service.messages import Start
from engine.service.reload import Reloader
from engine.service.workers import Workers
from engine.sources.nfqueue import kernel_counters

READY = "btblocker is ready"
# Between two looks at whether all workers are well.
_CHECK_S = 1.0

_log = logging.getLogger(__name__)


class Daemon:
    """One blocker: queues and their workers, bans, and what enforces them."""

    def __init__(self, settings: Settings, reread: Callable[[], Settings]) -> None:
        """Compile the signatures and read the machine.

        `reread` gives the settings anew, for SIGHUP. Raises SignatureError, InputError.
        """
        self._settings = settings
        self._reread = reread
        self._built = _build(settings)
        self._events = Events(settings.detection_log, monitor_only=settings.monitor_only)
        self._started = time.time()
        self._stopping = False
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._wake_read, self._wake_write = socket.socketpair()
        for end in (self._wake_read, self._wake_write):
            end.setblocking(False)
        self._xdp: XdpFilter | None = None
        self._selector = selectors.DefaultSelector()
        self._workers = self._make_workers()
        self._enforcement = Enforcement(settings, read_machine(), self._workers)
        self._reloader = Reloader(self._selector)
        self._handlers: dict[str, Callable[[dict[str, Any]], dict[str, Any] | Deferred]] = {
            "status": self._status,
            "reload": self._request_reload,
            **BanRequests(self._enforcement).handlers,
        }

    def run(self) -> None:
        """Block until SIGTERM or SIGINT. Raises UnavailableError, InputError at the start."""
        settings = self._settings
        with contextlib.ExitStack() as held:
            held.callback(self._events.close)
            held.callback(self._selector.close)
            held.enter_context(self._signals())
            held.callback(self._reloader.close)
            self._enforcement.begin()
            held.callback(self._enforcement.close)
            held.enter_context(self._workers)
            self._workers.begin(self._built)
            held.enter_context(ControlServer(settings.queue_num, self._answer_in_turn))
            if not settings.monitor_only:
                self._xdp = self._attach_xdp(held)
            if self._xdp is not None:
                held.enter_context(self._enforcement.also_in(self._xdp))
            self._install_rules(held)
            _log.info("%s: %s", READY, self._describe())
            self._loop()
            _log.info("stopping")

    # --- what the workers detect

    def _detected(self, detections: tuple[Detection, ...]) -> None:
        for detection in detections:
            bans = self._enforcement.punish(detection)
            if bans or not detection.repeated:
                self._events.detected(detection, [target_text(ban.target) for ban in bans])

    def _dropped(self, by_target: Mapping[bytes, tuple[int, int]]) -> None:
        self._enforcement.bans.count(by_target)

    def _take_matches(self) -> None:
        """Hear what signatures in the driver have dropped and banned by themselves."""
        if self._xdp is None:
            return
        for match in self._xdp.matches():
            then, packet = match.signature.then, match.packet
            if then.tag is not None:
                expires_s = time.monotonic() + then.tag.lasts_s
                for host in tagged_hosts(then.tag, packet):
                    self._workers.tag(host, then.tag.name, expires_s)
            detection = Detection(
                match.signature.id,
                match.signature.rev,
                then.action,
                packet.transport,
                packet.source,
                packet.destination,
                flow_packet=0,
                payload_packet=0,
                ban=then.ban,
                in_driver=True,
            )
            self._detected((detection,))
            if packet.source.address not in self._enforcement.bans:
                # Allowed, or a gateway, since the moment before.
                self._xdp.unban(packet.source.address)

    # --- start and stop

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        def stop(*_: object) -> None:
            self._stopping = True

        def reload(*_: object) -> None:
            self._calls.put(self._reload_on_signal)

        previous = {
            number: signal.signal(number, handler)
            for number, handler in (
                (signal.SIGTERM, stop),
                (signal.SIGINT, stop),
                (signal.SIGHUP, reload),
            )
        }
        old_wakeup = signal.set_wakeup_fd(self._wake_write.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(old_wakeup)
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _make_workers(self) -> Workers:
        settings = self._settings
        start = Start(
            settings.queue_num,
            settings.workers > 1,
            settings.monitor_only,
            settings.fail_open,
            settings.log_level,
        )
        starts = [replace(start, queue_num=number) for number in settings.queues]
        return Workers(
            starts,
            self._selector,
            self._detected,
            self._dropped,
            lambda: self._enforcement.bans.until_ns(),
        )

    def _attach_xdp(self, held: contextlib.ExitStack) -> XdpFilter | None:
        settings = self._settings
        if settings.xdp_mode == "off":
            return None
        interfaces = chosen_interfaces(settings.interface)
        try:
            return held.enter_context(
                XdpFilter(
                    interfaces,
                    XdpMode(settings.xdp_mode),
                    _program(self._built),
                )
            )
        except UnavailableError as error:
            _log.warning("Failed to initialize XDP filter: %s", error)
            _log.warning("going on with NFQUEUE alone: every packet is dropped there")
            return None

    def _install_rules(self, held: contextlib.ExitStack) -> None:
        settings = self._settings
        redirect = Redirect(
            settings.queue_num,
            settings.chain,
            queues=settings.workers,
            fail_open=settings.fail_open,
            tunnels=settings.tunnels,
            defragment=settings.defragment,
        )
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
        if self._xdp is not None:
            parts += [f"XDP {a.mode} on {a.interface}" for a in self._xdp.attachments]
            if self._settings.xdp_signatures:
                parts.append(f"{len(self._xdp.signatures)} signatures in the driver, too")
        if self._settings.monitor_only:
            parts.append("monitor only: nothing is dropped")
        return ", ".join(parts)

    # --- the loop

    def _loop(self) -> None:
        self._selector.register(self._wake_read, selectors.EVENT_READ, self._woken)
        if self._xdp is not None:
            self._selector.register(self._xdp, selectors.EVENT_READ, self._take_matches)
        next_cleanup = time.monotonic() + self._settings.cleanup_interval
        next_check = time.monotonic() + _CHECK_S
        while not self._stopping:
            for key, _ in self._selector.select(max(0.0, next_check - time.monotonic())):
                key.data()
            now_s = time.monotonic()
            if now_s >= next_check:
                next_check = now_s + _CHECK_S
                self._workers.check()
            if now_s >= next_cleanup:
                next_cleanup = now_s + self._settings.cleanup_interval
                self._clean_up()

    def _post(self, call: Callable[[], None]) -> None:
        """Have the main thread make a call, between two packets. For other threads."""
        self._calls.put(call)
        with contextlib.suppress(BlockingIOError):  # full: it will wake anyway
            self._wake_write.send(b"\0")

    def _woken(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_read.recv(4096)
        while not self._calls.empty():
            self._calls.get()()

    def _clean_up(self) -> None:
        def read() -> None:
            machine = read_machine()
            self._post(lambda: self._enforcement.take_machine(machine))

        # It runs programs, which nobody should wait for.
        threading.Thread(target=read, name="machine", daemon=True).start()
        self._take_matches()  # or a ban that was renewed just now would be taken for expired
        expired = self._enforcement.clean_up()
        if expired:
            _log.info("%d bans have expired", expired)

    # --- reloads

    def _reload_on_signal(self) -> None:
        with contextlib.suppress(InputError):  # told and counted already
            self._reload()

    def _reload(self) -> Path:
        """Build a new RuleSet beside the running one; settings follow it or stay.

        Gives the folder it is built from. Raises InputError for bad settings.
        """
        try:
            settings = self._reread()
        except InputError as error:
            self._reloader.refuse(str(error))
            raise

        def install(built: Built) -> None:
            if self._xdp is not None and (program := _program(built)) is not None:
                self._take_matches()
                self._xdp.replace(program)
            self._built = built
            self._workers.install(built, lambda: self._reloader.succeed(built.signatures))
            # What packets, interfaces and rules hang on stays until a restart.
            names = ("signatures", "detection_profile", "cleanup_interval", *BAN_SETTINGS)
            changed = {name: getattr(settings, name) for name in names}
            self._settings = self._settings.model_copy(update=changed)
            self._enforcement.configure(self._settings)

        _log.info("reloading signatures from %s", settings.signatures)
        for_driver = self._xdp is not None and self._settings.xdp_signatures
        self._reloader.start(settings.signatures, settings.detection_profile, for_driver, install)
        return settings.signatures

    def _request_reload(self, _request: dict[str, Any]) -> dict[str, Any]:
        return {"reloading": str(self._reload())}

    # --- requests

    def _answer_in_turn(self, request: dict[str, Any]) -> dict[str, Any]:
        """Run a request on the main thread; called on a client's thread."""
        handler = self._handlers.get(str(request.get("command")))
        if handler is None:
            raise InputError(f"unknown command; known: {', '.join(self._handlers)}")
        answer: Future[dict[str, Any] | Deferred] = Future()

        def call() -> None:
            try:
                answer.set_result(handler(request))
            except Exception as error:
                answer.set_exception(error)

        self._post(call)
        result = answer.result(timeout=TIMEOUT_S)
        return result if isinstance(result, dict) else result()

    def _status(self, _request: dict[str, Any]) -> dict[str, Any]:
        queue, workers = self._workers.counters()
        kernel = [kernel_counters(number) for number in self._settings.queues]
        xdp = None
        if self._xdp is not None:
            counters = self._xdp.counters()
            xdp = {
                "interfaces": [
                    {"name": a.interface, "mode": a.mode} for a in self._xdp.attachments
                ],
                "passed": counters.passed,
                "dropped_source": counters.dropped_source,
                "dropped_destination": counters.dropped_destination,
                "dropped_signature": counters.dropped_signature,
                "signatures": [signature.id for signature in self._xdp.signatures],
            }
        return {
            "pid": os.getpid(),
            "uptime_s": round(time.time() - self._started, 1),
            "monitor_only": self._settings.monitor_only,
            "queue": {
                "number": self._settings.queue_num,
                "packets": queue.packets,
                "accepted": queue.packets - queue.dropped,
                "dropped": queue.dropped,
                "errors": queue.errors,
                "waiting": sum(counters.waiting for counters in kernel),
                "queue_dropped": sum(counters.queue_dropped for counters in kernel),
                "user_dropped": sum(counters.user_dropped for counters in kernel),
            },
            "workers": [
                {"queue": w.queue_num, "pid": w.pid, "packets": w.counters.packets} for w in workers
            ],
            "signatures": {
                "folder": str(self._settings.signatures),
                "loaded": self._built.signatures,
                "profile": self._settings.detection_profile,
                "reloads": self._reloader.succeeded,
                "failed_reloads": self._reloader.failed,
            },
            "flows": queue.flows,
            "detections": {
                "total": self._events.by_signature.total(),
                "by_signature": dict(self._events.by_signature),
            },
            **self._enforcement.status(),
            "xdp": xdp,
        }


def _program(built: Built) -> XdpProgram | None:
    """The XDP program for the driver's signatures, if it was asked for.

    Raises UnavailableError where this machine cannot build it.
    """
    if built.driver is None:
        return None
    if built.driver.program is None:
        raise UnavailableError(built.driver.failure)
    for warning in built.driver.warnings:
        _log.warning("%s", warning)
    return built.driver.program


def _build(settings: Settings) -> Built:
    for_driver = (
        settings.xdp_signatures and settings.xdp_mode != "off" and not settings.monitor_only
    )
    build = Build(settings.signatures, settings.detection_profile, for_driver=for_driver)
    try:
        return build.result()
    finally:
        build.end()
