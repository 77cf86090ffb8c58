"""Notices that packets are lost or pass unjudged, and says so."""

from __future__ import annotations

from engine.service.events import Events
from engine.service.messages import Counters
from engine.sources.nfqueue import KernelCounters


class Losses:
    """Compares counters with those of the look before."""

    def __init__(self, events: Events) -> None:
        self._events = events
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
