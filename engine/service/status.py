"""What a running blocker knows of itself: the shape that `status`, `top` and metrics share."""

from __future__ import annotations

from typing import Any, TypedDict


class ProcessUsage(TypedDict):
    """Processor time since its start, and memory and open files of this moment."""

    name: str
    pid: int
    cpu_s: float
    resident_bytes: int
    open_files: int


class QueueStatus(TypedDict):
    """Packets since the start, of all queues; `waiting` and `capacity` are of this moment.

    `released` and `refused` is how often connections were left to the kernel, to pass or to be
    dropped.
    """

    number: int
    packets: int
    accepted: int
    dropped: int
    errors: int
    unreported: int
    waiting: int
    capacity: int
    queue_dropped: int
    user_dropped: int
    released: int
    refused: int


class WorkerStatus(TypedDict):
    """The process of one queue, and the packets that it has judged."""

    queue: int
    pid: int
    packets: int


class LatencyStatus(TypedDict):
    """How long packets took to be judged, of the few that were measured.

    `counts` has one more than `bounds_s`: what took longer than the last of them.
    """

    bounds_s: list[float]
    counts: list[int]
    sum_s: float


class ReloadStatus(TypedDict):
    """The latest reload; `time` is Unix time."""

    time: float
    outcome: str
    duration_s: float
    message: str | None


class SignatureStatus(TypedDict):
    """The signatures in force, `loaded_at` (Unix time), and reloads since the start."""

    folder: str
    profile: str
    loaded: int
    loaded_at: float
    reloads: int
    failed_reloads: int
    last_reload: ReloadStatus | None


class DetectionStatus(TypedDict):
    """Since the start; `latest` are the newest that were told, as in the event log."""

    total: int
    by_signature: dict[str, int]
    latest: list[dict[str, Any]]


class BanStatus(TypedDict):
    """`active` now, and `remembered` of the past; `total` set and `lifted`, by cause, since start.

    `allowed_networks` are those whose traffic is let alone.
    """

    active: int
    remembered: int
    allowed_networks: int
    total: int
    lifted: dict[str, int]


class StateStatus(TypedDict):
    """Where bans and allowed networks are kept, and why not; null for nowhere and no reason."""

    file: str | None
    problem: str | None


class InterfaceStatus(TypedDict):
    """An interface that XDP watches."""

    name: str
    mode: str


class XdpStatus(TypedDict):
    """Packets since the start, over all interfaces; the signatures decided in the driver.

    `waits_for` are interfaces that do not exist now.
    """

    interfaces: list[InterfaceStatus]
    waits_for: list[str]
    passed: int
    dropped_source: int
    dropped_destination: int
    dropped_signature: int
    signatures: list[str]


class EventStatus(TypedDict):
    """What was not written one by one, what could not be written, troubles by kind."""

    suppressed: int
    lost: int
    troubles: dict[str, int]


class Status(TypedDict):
    """All of it; `started_at` is Unix time."""

    version: str
    pid: int
    started_at: float
    uptime_s: float
    monitor_only: bool
    processes: list[ProcessUsage]
    queue: QueueStatus
    workers: list[WorkerStatus]
    latency: LatencyStatus
    signatures: SignatureStatus
    flows: int
    detections: DetectionStatus
    bans: BanStatus
    state: StateStatus
    xdp: XdpStatus | None
    events: EventStatus
