"""What happened between two looks at a blocker."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

from engine.console.quantile import quantile_s
from engine.service.status import LatencyStatus, Status


@dataclass(frozen=True, slots=True)
class SignatureRate:
    """Detections of one signature: since the start, and a second in the interval."""

    id: str
    total: int
    per_s: float


@dataclass(frozen=True, slots=True)
class Rates:
    """Rates are a second, over `interval_s`; `waiting`, `bans` and `flows` are of its end.

    Of the verdicts in the interval, half and 99% came within these times: null where none was
    measured, or they took longer than the last bucket of the histogram.
    """

    time: float
    interval_s: float
    packets_per_s: float
    dropped_per_s: float
    lost_per_s: float
    xdp_passed_per_s: float
    xdp_dropped_per_s: float
    detections_per_s: float
    bans_per_s: float
    waiting: int
    capacity: int
    bans: int
    flows: int
    verdict_p50_s: float | None
    verdict_p99_s: float | None
    signatures: tuple[SignatureRate, ...]

    def as_json(self) -> dict[str, Any]:
        """The same for scripts."""
        return asdict(self)


def rates(before: Status, after: Status) -> Rates:
    """What happened from one status to the next; from nothing where it was started in between."""
    interval_s = after["uptime_s"] - before["uptime_s"]
    same = before["pid"] == after["pid"] and interval_s > 0
    if not same:
        interval_s = after["uptime_s"]
    interval_s = max(interval_s, 0.001)

    def per_s(now: float, then: float) -> float:
        # A worker that was replaced takes its part of some counters with it.
        return round(max(0.0, now - (then if same else 0)) / interval_s, 3)

    queue, queue_then = after["queue"], before["queue"]
    xdp, xdp_then = _xdp(after), _xdp(before)
    detections, detections_then = after["detections"], before["detections"]
    known = detections_then["by_signature"]
    latency = _between(before["latency"], after["latency"]) if same else after["latency"]
    signatures = [
        SignatureRate(signature, total, per_s(total, known.get(signature, 0)))
        for signature, total in detections["by_signature"].items()
    ]
    return Rates(
        time=round(time.time(), 3),
        interval_s=round(interval_s, 3),
        packets_per_s=per_s(queue["packets"], queue_then["packets"]),
        dropped_per_s=per_s(queue["dropped"], queue_then["dropped"]),
        lost_per_s=per_s(_lost(after), _lost(before)),
        xdp_passed_per_s=per_s(xdp[0], xdp_then[0]),
        xdp_dropped_per_s=per_s(xdp[1], xdp_then[1]),
        detections_per_s=per_s(detections["total"], detections_then["total"]),
        bans_per_s=per_s(after["bans"]["total"], before["bans"]["total"]),
        waiting=queue["waiting"],
        capacity=queue["capacity"],
        bans=after["bans"]["active"],
        flows=after["flows"],
        verdict_p50_s=quantile_s(latency, 0.5),
        verdict_p99_s=quantile_s(latency, 0.99),
        signatures=tuple(sorted(signatures, key=lambda each: (-each.per_s, -each.total, each.id))),
    )


def _lost(status: Status) -> int:
    return status["queue"]["queue_dropped"] + status["queue"]["user_dropped"]


def _xdp(status: Status) -> tuple[int, int]:
    """Packets passed and dropped by XDP."""
    xdp = status["xdp"]
    if xdp is None:
        return 0, 0
    by_bans = xdp["dropped_source"] + xdp["dropped_destination"]
    return xdp["passed"], by_bans + xdp["dropped_signature"]


def _between(before: LatencyStatus, after: LatencyStatus) -> LatencyStatus:
    counts = [
        max(0, now - then) for now, then in zip(after["counts"], before["counts"], strict=True)
    ]
    return {
        "bounds_s": after["bounds_s"],
        "counts": counts,
        "sum_s": after["sum_s"] - before["sum_s"],
    }
