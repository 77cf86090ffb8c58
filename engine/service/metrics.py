"""The metrics, each with its name, meaning, and how it follows from a blocker's status.

docs/monitoring.md lists them from here. Names follow Prometheus's conventions:
https://prometheus.io/docs/practices/naming/
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.registry import Collector, CollectorRegistry

from engine.service.status import Status

# Values of the labels, in the order of their names, and the metric's value.
Sample = tuple[tuple[str, ...], float]

_Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily


@dataclass(frozen=True, slots=True)
class Metric:
    """One counter or gauge; a counter's name has `_total` added where it is shown."""

    name: str
    kind: Literal["counter", "gauge"]
    meaning: str
    samples: Callable[[Status], Iterable[Sample]]
    labels: tuple[str, ...] = ()

    @property
    def shown_name(self) -> str:
        """As queries name it."""
        return f"{self.name}_total" if self.kind == "counter" else self.name

    def family(self, status: Status) -> CounterMetricFamily | GaugeMetricFamily:
        """Its samples at the time of `status`."""
        kind = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        family = kind(self.name, self.meaning, labels=self.labels)
        for labels, value in self.samples(status):
            family.add_metric(labels, value)
        return family


def _one(value: Callable[[Status], float]) -> Callable[[Status], list[Sample]]:
    return lambda status: [((), value(status))]


def _verdicts(status: Status) -> list[Sample]:
    queue = status["queue"]
    return [(("accept",), queue["accepted"]), (("drop",), queue["dropped"])]


def _lost(status: Status) -> list[Sample]:
    queue = status["queue"]
    return [(("queue",), queue["queue_dropped"]), (("socket",), queue["user_dropped"])]


def _offloaded(status: Status) -> list[Sample]:
    queue = status["queue"]
    return [(("pass",), queue["released"]), (("drop",), queue["refused"])]


def _detections(status: Status) -> Iterator[Sample]:
    for signature, count in status["detections"]["by_signature"].items():
        yield (signature,), count


def _lifted(status: Status) -> list[Sample]:
    lifted = status["bans"]["lifted"]
    return [((cause,), lifted.get(cause, 0)) for cause in ("expired", "manual", "exempt")]


def _xdp_packets(status: Status) -> list[Sample]:
    xdp = status["xdp"]
    if xdp is None:
        return []
    return [
        (("passed",), xdp["passed"]),
        (("dropped_source",), xdp["dropped_source"]),
        (("dropped_destination",), xdp["dropped_destination"]),
        (("dropped_signature",), xdp["dropped_signature"]),
    ]


def _xdp_interfaces(status: Status) -> list[Sample]:
    xdp = status["xdp"]
    return [] if xdp is None else [((i["name"], i["mode"]), 1) for i in xdp["interfaces"]]


def _reloads(status: Status) -> list[Sample]:
    signatures = status["signatures"]
    return [
        (("ok",), signatures["reloads"]),
        (("refused",), signatures["failed_reloads"]),
    ]


def _reload_duration(status: Status) -> list[Sample]:
    last = status["signatures"]["last_reload"]
    return [] if last is None else [((), last["duration_s"])]


def _troubles(status: Status) -> Iterator[Sample]:
    for kind, count in status["events"]["troubles"].items():
        yield (kind,), count


METRICS = (
    Metric(
        "btblocker_info",
        "gauge",
        "Always 1; the version, and whether it only monitors.",
        lambda s: [((s["version"], str(s["monitor_only"]).lower()), 1)],
        ("version", "monitor_only"),
    ),
    Metric(
        "btblocker_start_time_seconds",
        "gauge",
        "When it was started, Unix time.",
        _one(lambda s: s["started_at"]),
    ),
    Metric(
        "btblocker_packets",
        "counter",
        "Packets from the queues, by verdict.",
        _verdicts,
        ("verdict",),
    ),
    Metric(
        "btblocker_offloads",
        "counter",
        "How often a connection was left to the kernel, to pass or to be dropped.",
        _offloaded,
        ("verdict",),
    ),
    Metric(
        "btblocker_packet_errors",
        "counter",
        "Packets accepted unjudged because of an error of btblocker's.",
        _one(lambda s: s["queue"]["errors"]),
    ),
    Metric(
        "btblocker_detections",
        "counter",
        "Detections, by signature.",
        _detections,
        ("signature",),
    ),
    Metric(
        "btblocker_unreported_detections",
        "counter",
        "Detections that came too fast: dropped, but nobody was banned for them.",
        _one(lambda s: s["queue"]["unreported"]),
    ),
    Metric(
        "btblocker_bans_active",
        "gauge",
        "Bans in force.",
        _one(lambda s: s["bans"]["active"]),
    ),
    Metric(
        "btblocker_bans",
        "counter",
        "Bans set or renewed.",
        _one(lambda s: s["bans"]["total"]),
    ),
    Metric(
        "btblocker_unbans",
        "counter",
        "Bans that have ended, by cause.",
        _lifted,
        ("cause",),
    ),
    Metric(
        "btblocker_queue_waiting_packets",
        "gauge",
        "Packets that wait in the queues.",
        _one(lambda s: s["queue"]["waiting"]),
    ),
    Metric(
        "btblocker_queue_capacity_packets",
        "gauge",
        "Packets that can wait in the queues.",
        _one(lambda s: s["queue"]["capacity"]),
    ),
    Metric(
        "btblocker_queue_lost_packets",
        "counter",
        "Packets that the kernel did not hand over, because the queue or its socket was full.",
        _lost,
        ("full",),
    ),
    Metric(
        "btblocker_xdp_packets",
        "counter",
        "Packets that the driver hook saw, by what became of them; none without XDP.",
        _xdp_packets,
        ("outcome",),
    ),
    Metric(
        "btblocker_xdp_attached",
        "gauge",
        "1 for each interface that XDP watches; none without XDP.",
        _xdp_interfaces,
        ("interface", "mode"),
    ),
    Metric(
        "btblocker_signatures",
        "gauge",
        "Signatures in force.",
        _one(lambda s: s["signatures"]["loaded"]),
    ),
    Metric(
        "btblocker_signatures_loaded_time_seconds",
        "gauge",
        "When the signatures in force were loaded, Unix time.",
        _one(lambda s: s["signatures"]["loaded_at"]),
    ),
    Metric("btblocker_reloads", "counter", "Reloads, by outcome.", _reloads, ("outcome",)),
    Metric(
        "btblocker_last_reload_duration_seconds",
        "gauge",
        "How long the latest reload took; none before the first.",
        _reload_duration,
    ),
    Metric(
        "btblocker_flows",
        "gauge",
        "Directions of flows that are remembered.",
        _one(lambda s: s["flows"]),
    ),
    Metric(
        "btblocker_events_suppressed",
        "counter",
        "Events that were not told one by one, because there were too many.",
        _one(lambda s: s["events"]["suppressed"]),
    ),
    Metric(
        "btblocker_events_lost",
        "counter",
        "Events and packets of evidence that could not be written.",
        _one(lambda s: s["events"]["lost"]),
    ),
    Metric(
        "btblocker_troubles",
        "counter",
        "Troubles told in the log, by kind.",
        _troubles,
        ("what",),
    ),
    Metric(
        "btblocker_process_cpu_seconds",
        "counter",
        "Processor time of each of its processes.",
        lambda s: [((p["name"],), p["cpu_s"]) for p in s["processes"]],
        ("process",),
    ),
    Metric(
        "btblocker_process_resident_bytes",
        "gauge",
        "Memory of each of its processes.",
        lambda s: [((p["name"],), p["resident_bytes"]) for p in s["processes"]],
        ("process",),
    ),
    Metric(
        "btblocker_process_open_files",
        "gauge",
        "Open files of each of its processes.",
        lambda s: [((p["name"],), p["open_files"]) for p in s["processes"]],
        ("process",),
    ),
)

LATENCY_NAME = "btblocker_judge_seconds"
LATENCY_MEANING = "From reading a packet to its verdict, of at most one packet a millisecond."


class StatusCollector(Collector):
    """Asks for the status at every scrape."""

    def __init__(self, ask: Callable[[], Status]) -> None:
        self._ask = ask

    def describe(self) -> list[_Family]:
        """Nothing: asking for it at registration would need a blocker."""
        return []

    def collect(self) -> Iterator[_Family]:
        """All metrics of this moment."""
        status = self._ask()
        for metric in METRICS:
            yield metric.family(status)
        yield _latency(status)


def registry(ask: Callable[[], Status]) -> CollectorRegistry:
    """What prometheus_client exposes: the metrics of the status that `ask` gives."""
    made = CollectorRegistry()
    made.register(StatusCollector(ask))
    return made


def _latency(status: Status) -> HistogramMetricFamily:
    latency = status["latency"]
    bounds = [*map(str, latency["bounds_s"]), "+Inf"]
    buckets = list(zip(bounds, accumulate(latency["counts"]), strict=True))
    return HistogramMetricFamily(
        LATENCY_NAME, LATENCY_MEANING, buckets=buckets, sum_value=latency["sum_s"]
    )
