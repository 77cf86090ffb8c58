"""The running blocker: what it holds, in which order it comes and goes, what it answers.

Packets, signals and requests are all served by one thread, so that nothing on the packet
path needs a lock. What takes long is done elsewhere (a reload is built by another process,
a client's socket has its own thread) and handed over by `_post`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from ipaddress import ip_address
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from engine.config import Settings
from engine.enforce.bans import BanList
from engine.enforce.policy import Policy
from engine.enforce.program import build_program
from engine.enforce.redirect import Redirect
from engine.enforce.xdp import XdpFilter, XdpMode
from engine.errors import InputError, UnavailableError
from engine.inspect.inspector import ACCEPTED, Detection, Inspector, Verdict
from engine.language.diagnostics import Diagnostic
from engine.service.control import TIMEOUT_S, ControlServer
from engine.service.events import Events
from engine.service.interfaces import chosen_interfaces
from engine.service.reload import Build, Reloader, build_tested
from engine.sources.nfqueue import PacketQueue

READY = "btblocker is ready"

_log = logging.getLogger(__name__)


class Daemon:
    """One blocker: a queue, an inspector, bans, and what enforces them."""

    def __init__(self, settings: Settings, reread: Callable[[], Settings]) -> None:
        """Compile the signatures and read the machine.

        `reread` gives the settings anew, for SIGHUP. Raises SignatureError, InputError.
        """
        self._settings = settings
        self._reread = reread
        self._inspector = Inspector(build_tested(settings.signatures))
        self._events = Events(settings.detection_log, monitor_only=settings.monitor_only)
        self._policy = Policy()
        self._started = time.time()
        self._stopping = False
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._wake_read, self._wake_write = socket.socketpair()
        for end in (self._wake_read, self._wake_write):
            end.setblocking(False)
        self._xdp: XdpFilter | None = None
        self._bans = BanList()
        self._reloader = Reloader(self._post)
        self._handlers: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "status": self._status,
            "bans": self._list_bans,
            "ban": self._ban,
            "unban": self._unban,
            "reload": self._request_reload,
        }

    def run(self) -> None:
        """Block until SIGTERM or SIGINT. Raises UnavailableError, InputError at the start."""
        settings = self._settings
        with contextlib.ExitStack() as held:
            held.callback(self._events.close)
            held.enter_context(self._signals())
            held.callback(self._reloader.close)
            queue = held.enter_context(PacketQueue(settings.queue_num, self._judge))
            self._queue = queue
            # Packets that still wait when the rules are gone get their verdict, too.
            held.callback(queue.drain)
            held.enter_context(ControlServer(settings.queue_num, self._answer_in_turn))
            if not settings.monitor_only:
                self._xdp = self._attach_xdp(held)
            self._bans = BanList(self._xdp)
            self._install_rules(held)
            _log.info("%s: %s", READY, self._describe())
            self._loop(queue)
            _log.info("stopping")

    # --- the packet path

    def _judge(self, datagram: bytes, now_s: float) -> bool:
        """Whether to drop a packet; the queue gives the verdict."""
        if self._bans.covers(datagram):
            return True
        judgement = self._inspector.inspect(datagram, now_s)
        if judgement is ACCEPTED:
            return False
        for detection in judgement.detections:
            banned = () if self._settings.monitor_only else self._policy.banned_by(detection)
            for address in banned:
                self._bans.ban(address, detection.signature, self._settings.ban_duration)
            self._events.detected(detection, banned)
        return judgement.verdict is Verdict.DROP and not self._settings.monitor_only

    def _take_matches(self) -> None:
        """Hear what signatures in the driver have dropped and banned by themselves."""
        if self._xdp is None:
            return
        for match in self._xdp.matches():
            signature, packet = match.signature, match.packet
            source = packet.source
            self._bans.adopt(source.address, signature.id, match.expires_ns)
            self._inspector.tag(signature.then, packet, time.monotonic())
            self._events.detected(
                Detection(
                    signature.id,
                    signature.rev,
                    signature.then.action,
                    packet.transport,
                    source,
                    packet.destination,
                    flow_packet=0,
                    payload_packet=0,
                    in_driver=True,
                ),
                (source.address,),
            )

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

    def _attach_xdp(self, held: contextlib.ExitStack) -> XdpFilter | None:
        settings = self._settings
        if settings.xdp_mode == "off":
            return None
        interfaces = chosen_interfaces(settings.interface)
        in_driver = self._inspector.ruleset.signatures if settings.xdp_signatures else ()
        try:
            program, warnings = build_program(in_driver)
            _report(warnings)
            return held.enter_context(
                XdpFilter(
                    interfaces,
                    XdpMode(settings.xdp_mode),
                    program,
                    allowed=self._policy.exempt_networks(),
                    ban_duration_s=settings.ban_duration,
                )
            )
        except UnavailableError as error:
            _log.warning("Failed to initialize XDP filter: %s", error)
            _log.warning("going on with NFQUEUE alone: every packet is dropped there")
            return None

    def _install_rules(self, held: contextlib.ExitStack) -> None:
        redirect = Redirect(self._settings.queue_num, self._settings.chain)
        if self._settings.manage_rules:
            held.enter_context(redirect)
            return
        _log.info("no packet comes here before these rules are in place:")
        for rule in redirect.rules():
            _log.info("  %s", rule)

    def _describe(self) -> str:
        parts = [
            f"queue {self._settings.queue_num}",
            f"{len(self._inspector.ruleset.signatures)} signatures",
        ]
        if self._xdp is not None:
            parts += [f"XDP {a.mode} on {a.interface}" for a in self._xdp.attachments]
            if self._settings.xdp_signatures:
                parts.append(f"{len(self._xdp.signatures)} of the signatures in the driver")
        if self._settings.monitor_only:
            parts.append("monitor only: nothing is dropped")
        return ", ".join(parts)

    # --- the loop

    def _loop(self, queue: PacketQueue) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(queue, selectors.EVENT_READ, queue.drain)
            selector.register(self._wake_read, selectors.EVENT_READ, self._woken)
            if self._xdp is not None:
                selector.register(self._xdp, selectors.EVENT_READ, self._take_matches)
            next_cleanup = time.monotonic() + self._settings.cleanup_interval
            while not self._stopping:
                for key, _ in selector.select(max(0.0, next_cleanup - time.monotonic())):
                    key.data()
                if time.monotonic() >= next_cleanup:
                    next_cleanup = time.monotonic() + self._settings.cleanup_interval
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
        self._policy.refresh()
        if self._xdp is not None:
            self._xdp.allow_only(self._policy.exempt_networks())
        self._take_matches()  # or a ban renewed just now would be taken for expired
        expired = self._bans.expire()
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

        def install(build: Build) -> None:
            if self._xdp is not None and build.driver is not None:
                self._take_matches()
                self._xdp.replace(build.driver)
                _report(build.warnings)
            self._inspector.ruleset = build.ruleset
            # What packets, interfaces and rules hang on stays until a restart.
            names = ("signatures", "ban_duration", "cleanup_interval")
            changed = {name: getattr(settings, name) for name in names}
            self._settings = self._settings.model_copy(update=changed)
            if self._xdp is not None:
                self._xdp.set_ban_duration(self._settings.ban_duration)

        _log.info("reloading signatures from %s", settings.signatures)
        for_driver = self._xdp is not None and self._settings.xdp_signatures
        self._reloader.start(settings.signatures, for_driver, install)
        return settings.signatures

    def _request_reload(self, _request: dict[str, Any]) -> dict[str, Any]:
        return {"reloading": str(self._reload())}

    # --- requests

    def _answer_in_turn(self, request: dict[str, Any]) -> dict[str, Any]:
        """Run a request on the main thread; called on a client's thread."""
        handler = self._handlers.get(str(request.get("command")))
        if handler is None:
            raise InputError(f"unknown command; known: {', '.join(self._handlers)}")
        answer: Future[dict[str, Any]] = Future()

        def call() -> None:
            try:
                answer.set_result(handler(request))
            except Exception as error:
                answer.set_exception(error)

        self._post(call)
        return answer.result(timeout=TIMEOUT_S)

    def _list_bans(self, _request: dict[str, Any]) -> dict[str, Any]:
        return {"bans": self._bans.as_json()}

    def _ban(self, request: dict[str, Any]) -> dict[str, Any]:
        address = _address(request)
        if self._settings.monitor_only:
            raise InputError("this blocker only monitors: it bans nobody")
        if self._policy.is_exempt(address):
            raise InputError(f"{request['address']} is this machine's own or names no host")
        duration_s = request.get("duration_s") or self._settings.ban_duration
        if not isinstance(duration_s, int) or duration_s < 1:
            raise InputError("a ban lasts a whole number of seconds")
        ban = self._bans.ban(address, "manual", duration_s)
        _log.info("banned %s by hand for %d s", request["address"], duration_s)
        return {"ban": ban.as_json()}

    def _unban(self, request: dict[str, Any]) -> dict[str, Any]:
        if not self._bans.unban(_address(request)):
            raise InputError(f"{request['address']} is not banned")
        _log.info("unbanned %s by hand", request["address"])
        return {"unbanned": request["address"]}

    def _status(self, _request: dict[str, Any]) -> dict[str, Any]:
        queue, kernel = self._queue, self._queue.kernel_counters()
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
                "number": queue.number,
                "packets": queue.packets,
                "accepted": queue.packets - queue.dropped,
                "dropped": queue.dropped,
                "errors": queue.errors,
                "waiting": kernel.waiting,
                "queue_dropped": kernel.queue_dropped,
                "user_dropped": kernel.user_dropped,
            },
            "signatures": {
                "folder": str(self._settings.signatures),
                "loaded": len(self._inspector.ruleset.signatures),
                "reloads": self._reloader.succeeded,
                "failed_reloads": self._reloader.failed,
            },
            "flows": self._inspector.flows,
            "detections": {
                "total": self._events.by_signature.total(),
                "by_signature": dict(self._events.by_signature),
            },
            "bans": {"active": sum(1 for _ in self._bans)},
            "xdp": xdp,
        }


def _address(request: dict[str, Any]) -> bytes:
    try:
        return ip_address(str(request.get("address"))).packed
    except ValueError as error:
        raise InputError(str(error)) from error


def _report(warnings: Iterable[Diagnostic]) -> None:
    for warning in warnings:
        _log.warning("%s", warning)


def set_up_logging(level: str) -> None:
    """Log to standard error, with times unless a journal adds its own."""
    under_journal = "JOURNAL_STREAM" in os.environ
    logging.basicConfig(
        stream=sys.stderr,
        level=level,
        format="%(levelname)s %(message)s"
        if under_journal
        else "%(asctime)s %(levelname)s %(message)s",
    )
