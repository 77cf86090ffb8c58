"""Notices that packets are lost or pass unjudged, and says so."""

from __future__ import annotations

from engine.service.events import Events
from engine.service.messages import Counters
from engine.sources.nfqueue import QUEUE_LENGTH, KernelCounters

_FULL = QUEUE_LENGTH * 9 // 10


class Losses:
    """Compares counters with those of the look before."""

    def __init__(self, events: Events, *, fail_open: bool) -> None:
        self._events = events
        self._consequence = "passes uninspected" if fail_open else "is lost"
        self._full = False
        self._lost = (0, 0)
        self._errors = 0
        self._unreported = 0

    def look(self, kernel: list[KernelCounters], workers: Counters) -> None:
        """Tell what has been lost since the last look; to be called every few seconds."""
        queue_full = sum(counters.queue_dropped for counters in kernel)
        socket_full = sum(counters.user_dropped for counters in kernel)
        # Counters of a queue begin anew with its worker.
        by_queue = max(0, queue_full - self._lost[0])
        by_socket = max(0, socket_full - self._lost[1])
        self._lost = queue_full, socket_full
        if by_queue or by_socket:
            self._events.trouble(
                "packets-lost",
                f"{by_queue + by_socket} packets were lost: more came than were judged "
                f"({by_queue} found the queue full, {by_socket} its socket)",
                count=by_queue + by_socket,
            )
        # The kernel does not count what passes a full queue uninspected (NFQA_CFG_F_FAIL_OPEN).
        full = max((queue.waiting for queue in kernel), default=0) >= _FULL
        if full != self._full:
            self._full = full
            self._events.trouble(
                "packets-unjudged",
                f"a queue is full: what finds no room {self._consequence}"
                if full
                else "no queue is full any longer",
                over=not full,
            )
        if (errors := workers.errors - self._errors) > 0:
            self._errors = workers.errors
            self._events.trouble(
                "packets-unjudged",
                f"{errors} packets were accepted unjudged: an error of ours, see the log",
                count=errors,
            )
        if (unheard := workers.unreported - self._unreported) > 0:
            self._unreported = workers.unreported
            self._events.trouble(
                "packets-unjudged",
                f"{unheard} detections came too fast: dropped, but nobody was banned for them",
                count=unheard,
            )
