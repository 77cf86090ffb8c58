"""Puts together what a running blocker knows of itself."""

from __future__ import annotations

import importlib.metadata
import os
import time

from engine.config import Settings
from engine.enforce.enforcement import Enforcement
from engine.enforce.xdp import XdpFilter
from engine.service.builder import Built
from engine.service.events import Events
from engine.service.interfaces import WatchedInterfaces
from engine.service.messages import Counters
from engine.service.status import (
    ProcessUsage,
    QueueStatus,
    SignatureStatus,
    Status,
    XdpStatus,
)
from engine.service.usage import usage
from engine.service.workers import WorkerCounters, Workers
from engine.sources.latency import BOUNDS_S
from engine.sources.nfqueue import QUEUE_LENGTH, kernel_counters


def status_of(
    settings: Settings,
    workers: Workers,
    built: Built,
    enforcement: Enforcement,
    xdp: XdpFilter | None,
    interfaces: WatchedInterfaces | None,
    events: Events,
) -> Status:
    """Ask the workers and the kernel, and put everything together."""
    counters, each = workers.counters()
    state = enforcement.state
    return Status(
        version=importlib.metadata.version("btblocker"),
        pid=os.getpid(),
        started_at=round(events.started_at, 3),
        uptime_s=round(time.time() - events.started_at, 1),
        monitor_only=settings.monitor_only,
        processes=_processes(each),
        queue=_queue(settings, counters),
        workers=[{"queue": w.queue_num, "pid": w.pid, "packets": w.counters.packets} for w in each],
        latency={
            "bounds_s": list(BOUNDS_S),
            "counts": counters.latency.counts,
            "sum_s": round(counters.latency.sum_s, 9),
        },
        signatures=_signatures(settings, built, events),
        flows=counters.flows,
        detections={
            "total": events.by_signature.total(),
            "by_signature": dict(events.by_signature),
            "latest": [found.model_dump(by_alias=True) for found in events.latest],
        },
        bans={
            "active": sum(1 for _ in enforcement.bans),
            "remembered": enforcement.bans.remembered,
            "allowed_networks": len(enforcement.allowed()),
            "total": events.bans,
            "lifted": dict(events.lifted),
        },
        state={
            "file": None if state.file is None else str(state.file),
            "problem": state.problem or None,
        },
        xdp=None if xdp is None else _xdp(xdp, interfaces),
        events={
            "suppressed": events.suppressed,
            "lost": events.lost,
            "troubles": dict(events.troubles),
        },
    )


def _processes(workers: list[WorkerCounters]) -> list[ProcessUsage]:
    found = [usage("daemon", os.getpid())]
    found += [usage(f"worker {worker.queue_num}", worker.pid) for worker in workers]
    return [process for process in found if process is not None]


def _queue(settings: Settings, counters: Counters) -> QueueStatus:
    kernel = [kernel_counters(number) for number in settings.queues]
    return {
        "number": settings.queue_num,
        "packets": counters.packets,
        "accepted": counters.packets - counters.dropped,
        "dropped": counters.dropped,
        "errors": counters.errors,
        "unreported": counters.unreported,
        "waiting": sum(queue.waiting for queue in kernel),
        "capacity": QUEUE_LENGTH * settings.workers,
        "queue_dropped": sum(queue.queue_dropped for queue in kernel),
        "user_dropped": sum(queue.user_dropped for queue in kernel),
        "released": counters.released,
        "refused": counters.refused,
    }


def _signatures(settings: Settings, built: Built, events: Events) -> SignatureStatus:
    last = events.last_reload
    return {
        "folder": str(settings.signatures),
        "profile": settings.detection_profile,
        "loaded": built.signatures,
        "loaded_at": round(events.loaded_at, 3),
        "reloads": events.reloads["ok"],
        "failed_reloads": events.reloads["refused"],
        "last_reload": None
        if last is None
        else {
            "time": last.time,
            "outcome": last.outcome,
            "duration_s": last.duration_s,
            "message": last.message,
        },
    }


def _xdp(xdp: XdpFilter, interfaces: WatchedInterfaces | None) -> XdpStatus:
    counters = xdp.counters()
    return {
        "interfaces": [{"name": a.interface, "mode": a.mode} for a in xdp.attachments],
        "waits_for": [] if interfaces is None else interfaces.missing,
        "passed": counters.passed,
        "dropped_source": counters.dropped_source,
        "dropped_destination": counters.dropped_destination,
        "dropped_signature": counters.dropped_signature,
        "signatures": [signature.id for signature in xdp.signatures],
    }
