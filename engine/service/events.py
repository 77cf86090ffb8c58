"""What happens is counted, and told to people (the log) and to programs (events).

The daemon hands facts to one `Events`; where they go, how often the same may be said, and what
becomes of what cannot be written is settled here. Nothing here waits for a disk or a terminal.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence

from engine.config import Settings
from engine.enforce.bans import Ban
from engine.enforce.target import address_of, target_text
from engine.enforce.xdp import Attachment
from engine.errors import InputError
from engine.inspect.judgement import Detection
from engine.language.form import STOPPING, Action
from engine.service.event import (
    Banned,
    Event,
    Found,
    LiftCause,
    Lifted,
    Reloaded,
    Start,
    Stop,
    Suppressed,
    Trouble,
    TroubleKind,
    XdpInterface,
)
from engine.service.evidence import Evidence, Exhibit
from engine.service.limit import WINDOW_S, LineLimit
from engine.service.outlet import Outlet
from engine.service.sinks import open_sink

LATEST = 10
_MAX_MESSAGE = 2000

_log = logging.getLogger(__name__)

_CONSEQUENCE: dict[Action, str] = {
    "block": "dropped",
    "drop": "dropped",
    "log": "only logged",
    "tag": "tagged",
}


class Events:
    """Counts, limits and tells. Used from one thread; `watch` is called every few seconds.

    `latest` are the events of the latest detections, the newest last.
    """

    def __init__(self, settings: Settings) -> None:
        """Open the logs. Raises InputError for one that cannot be written."""
        self.by_signature: Counter[str] = Counter()
        self.latest: deque[Found] = deque(maxlen=LATEST)
        self.bans = 0
        self.lifted: Counter[str] = Counter()
        self.reloads: Counter[str] = Counter()
        self.last_reload: Reloaded | None = None
        self.loaded_at = self.started_at = time.time()
        self.suppressed = 0
        self.troubles: Counter[str] = Counter()
        self._monitor_only = settings.monitor_only
        self._limit = LineLimit(settings.log_limit, settings.log_limit_total)
        self._window_ends_s = time.monotonic() + WINDOW_S
        self._failing: set[str] = set()
        self._lost_told: Counter[str] = Counter()
        self._state_problem = ""
        self._evidence: Outlet[Exhibit] | None = None
        if settings.detection_log is not None:
            evidence = Evidence(settings.detection_log, settings.detection_log_mb << 20)
            self._evidence = Outlet(f"the detection log {settings.detection_log}", evidence)
        self._outlets: list[Outlet[bytes]] = []
        for name in settings.event_log:
            try:
                self._outlets.append(Outlet(f"the event log {name}", open_sink(name)))
            except OSError as error:
                self.close()
                raise InputError(f"cannot write the event log {name}: {error}") from error

    # --- facts

    def started(self, queue_num: int, signatures: int, attachments: Iterable[Attachment]) -> None:
        """Packets are inspected from now on."""
        interfaces = tuple(XdpInterface(name=a.interface, mode=a.mode) for a in attachments)
        self._tell(
            Start(
                blocker=importlib.metadata.version("btblocker"),
                pid=os.getpid(),
                queue=queue_num,
                signatures=signatures,
                monitor_only=self._monitor_only,
                xdp=interfaces,
            )
        )

    def stopped(self, packets: int, dropped: int) -> None:
        """The end, in good order."""
        uptime_s = round(time.time() - self.started_at, 3)
        detections = self.by_signature.total()
        self._tell(Stop(uptime_s=uptime_s, packets=packets, dropped=dropped, detections=detections))

    def detected(self, detection: Detection, bans: Sequence[Ban], datagram: bytes) -> None:
        """A detection, the bans that follow from it, and the IP datagram that caused it.

        Of what the driver has found there is no datagram.
        One that only sets a tag is counted, and told at the level DEBUG alone. One that is
        repeated is told, and counted already.
        """
        self.by_signature[detection.signature] += not detection.repeated
        self.bans += len(bans)
        only_tagged = detection.action == "tag"
        if only_tagged and not _log.isEnabledFor(logging.DEBUG):
            return
        if not self._may_tell(detection.signature, detection.source.address):
            return
        addresses = tuple(target_text(ban.target) for ban in bans)
        sentence = self._sentence(detection, addresses)
        _log.log(logging.DEBUG if only_tagged else logging.INFO, "%s", sentence)
        if only_tagged:
            return
        found = Found(
            signature=detection.signature,
            rev=detection.rev,
            action=detection.action,
            transport=detection.transport,
            source=str(detection.source),
            destination=str(detection.destination),
            flow_packet=detection.flow_packet,
            payload_packet=detection.payload_packet,
            tunnelled=detection.tunnelled,
            in_driver=detection.in_driver,
            repeated=detection.repeated,
            monitor_only=self._monitor_only,
            banned=addresses,
        )
        self.latest.append(found)
        self._tell(found)
        for ban in bans:
            self._tell(_banned(ban))
        if self._evidence is not None and datagram:
            remark = f"{sentence} (rev {detection.rev})"
            self._evidence.put(Exhibit(time.time_ns(), datagram, remark))

    def banned_by_hand(self, ban: Ban) -> None:
        """A ban that somebody asked for."""
        self.bans += 1
        if self._may_tell("ban", address_of(ban.target)):
            event = _banned(ban)
            _log.info("banned %s by hand for %d s", event.address, event.duration_s)
            self._tell(event)

    def unbanned_by_hand(self, ban: Ban) -> None:
        """The end of a ban that somebody asked for."""
        self.lifted["manual"] += 1
        if self._tell_lifted(ban, "manual"):
            _log.info("unbanned %s by hand", target_text(ban.target))

    def expired(self, bans: Sequence[Ban]) -> None:
        """Bans that have run out."""
        if not bans:
            return
        self.lifted["expired"] += len(bans)
        _log.info("%d bans have expired", len(bans))
        for ban in bans:
            self._tell_lifted(ban, "expired")

    def exempted(self, bans: Sequence[Ban]) -> None:
        """Bans that have ended because their addresses are allowed now, or this machine's need."""
        self.lifted["exempt"] += len(bans)
        for ban in bans:
            if self._tell_lifted(ban, "exempt"):
                _log.info("unbanned %s, who is never banned now", target_text(ban.target))

    def reloaded(self, signatures: int, duration_s: float) -> None:
        """Other signatures are in force, so many."""
        _log.info("reloaded: %d signatures in force", signatures)
        self.loaded_at = time.time()
        self._reload_ended(
            Reloaded(
                outcome="ok",
                duration_s=round(duration_s, 3),
                signatures=signatures,
                message=None,
            )
        )

    def reload_refused(self, reason: str, duration_s: float) -> None:
        """A reload changes nothing."""
        _log.error("reload refused, everything stays as it was\n%s", reason)
        self._reload_ended(
            Reloaded(
                outcome="refused",
                duration_s=round(duration_s, 3),
                signatures=None,
                message=reason[:_MAX_MESSAGE],
            )
        )

    def trouble(
        self, what: TroubleKind, message: str, *, count: int = 0, over: bool = False
    ) -> None:
        """Something that the operator should know of, or that it is over."""
        self.troubles[what] += not over
        _log.warning("%s", message)
        self._tell(Trouble(what=what, message=message, over=over, count=count))

    # --- upkeep

    @property
    def lost(self) -> int:
        """Events and packets of evidence that could not be written."""
        return sum(outlet.lost for outlet in self._all())

    def watch(self) -> None:
        """See which logs cannot be written; tell what was suppressed when a minute is over."""
        for outlet in self._outlets:
            self._watch("event-log", outlet)
        if self._evidence is not None:
            self._watch("detection-log", self._evidence)
        if time.monotonic() >= self._window_ends_s:
            self._end_window()

    def watch_state(self, problem: str) -> None:
        """See whether bans and allowed networks can be kept; `problem` is empty where they can."""
        told, self._state_problem = self._state_problem, problem
        if problem and not told:
            self.trouble("state", f"{problem}; going on in memory")
        elif told and not problem:
            self.trouble("state", "bans and allowed networks are kept again", over=True)

    def reopen(self) -> None:
        """Go on in new files where the old ones were renamed."""
        for outlet in self._all():
            outlet.reopen()

    def close(self) -> None:
        """Tell what was suppressed, write what waits, and close the logs."""
        self._end_window()
        for outlet in self._all():
            outlet.close()

    def _all(self) -> list[Outlet[bytes] | Outlet[Exhibit]]:
        return [*self._outlets, *([self._evidence] if self._evidence is not None else [])]

    def _may_tell(self, topic: str, source: bytes) -> bool:
        allowed = self._limit.allows(topic, source)
        self.suppressed += not allowed
        return allowed

    def _tell_lifted(self, ban: Ban, cause: LiftCause) -> bool:
        """Whether there was no limit to telling it."""
        if not self._may_tell("unban", address_of(ban.target)):
            return False
        self._tell(Lifted(address=target_text(ban.target), reason=ban.reason, cause=cause))
        return True

    def _tell(self, event: Event) -> None:
        if self._outlets:
            line = event.line()
            for outlet in self._outlets:
                outlet.put(line)

    def _sentence(self, detection: Detection, addresses: Sequence[str]) -> str:
        consequence = _CONSEQUENCE[detection.action]
        if self._monitor_only and detection.action in STOPPING:
            consequence = f"not enforced (monitor only, action {detection.action})"
        elif addresses:
            consequence += f", banned {', '.join(addresses)}"
        where = " inside a tunnel" if detection.tunnelled else ""
        place = f"packet {detection.flow_packet} of the flow"
        if detection.in_driver:
            place = "in the driver"
        return (
            f"{detection.signature}: {detection.transport} {detection.source} -> "
            f"{detection.destination}{where}, {place}: {consequence}"
        )

    def _reload_ended(self, event: Reloaded) -> None:
        self.reloads[event.outcome] += 1
        self.last_reload = event
        self._tell(event)

    def _watch(self, what: TroubleKind, outlet: Outlet[bytes] | Outlet[Exhibit]) -> None:
        name, failure, lost = outlet.name, outlet.failure, outlet.lost
        if failure is not None:
            if name not in self._failing:
                self._failing.add(name)
                self.trouble(what, f"{name} cannot be written: {failure}")
            return
        count = lost - self._lost_told[name]
        if name in self._failing or count:
            self._failing.discard(name)
            self._lost_told[name] = lost
            message = f"{name} is written again; {count} entries were lost"
            self.trouble(what, message, count=count, over=True)

    def _end_window(self) -> None:
        self._window_ends_s = time.monotonic() + WINDOW_S
        for topic, count in self._limit.begin_window().items():
            _log.info("%s: %d more in the last %d s, not told one by one", topic, count, WINDOW_S)
            self._tell(Suppressed(topic=topic, count=count, window_s=WINDOW_S))


def _banned(ban: Ban) -> Banned:
    return Banned(
        address=target_text(ban.target),
        reason=ban.reason,
        duration_s=round((ban.expires_ns - time.monotonic_ns()) / 1e9),
        offences=ban.offences,
    )
