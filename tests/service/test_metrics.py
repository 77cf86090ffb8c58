"""The metrics, and that what is shown and alerted on exists."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from engine.service.metrics import LATENCY_NAME, METRICS, registry
from tests.service.statuses import STATUS, status

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "docs" / "monitoring"
# Those that Prometheus itself adds to every target.
FROM_PROMETHEUS = {"up": {"job", "instance"}}
ADDED_LABELS = {"instance", "job", "le"}


def _exposed(**changed: Any) -> dict[str, dict[frozenset[tuple[str, str]], float]]:
    """Values by name and labels, as a scrape finds them."""
    text = generate_latest(registry(lambda: status(**changed))).decode()
    found: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return found


def _value(exposed: dict[str, Any], name: str, **labels: str) -> float:
    value: float = exposed[name][frozenset(labels.items())]
    return value


def test_every_number_of_the_status_arrives() -> None:
    exposed = _exposed()
    assert set(exposed) == {metric.shown_name for metric in METRICS} | {
        f"{LATENCY_NAME}_{part}" for part in ("bucket", "count", "sum")
    }
    assert _value(exposed, "btblocker_packets_total", verdict="drop") == STATUS["queue"]["dropped"]
    assert _value(exposed, "btblocker_detections_total", signature="a.b") == 5
    assert _value(exposed, "btblocker_queue_lost_packets_total", full="socket") == 12
    assert _value(exposed, "btblocker_xdp_packets_total", outcome="dropped_source") == 21
    assert _value(exposed, "btblocker_reloads_total", outcome="refused") == 1
    assert _value(exposed, "btblocker_troubles_total", what="xdp") == 1
    assert _value(exposed, "btblocker_unbans_total", cause="manual") == 0


def test_the_histogram_adds_up() -> None:
    exposed = _exposed()
    counts = STATUS["latency"]["counts"]
    assert _value(exposed, f"{LATENCY_NAME}_bucket", le="+Inf") == sum(counts)
    assert _value(exposed, f"{LATENCY_NAME}_bucket", le="1e-05") == sum(counts[:2])
    assert _value(exposed, f"{LATENCY_NAME}_count") == sum(counts)
    assert _value(exposed, f"{LATENCY_NAME}_sum") == STATUS["latency"]["sum_s"]


def test_without_xdp_and_before_a_reload_there_is_nothing_of_them() -> None:
    exposed = _exposed(xdp=None, signatures=STATUS["signatures"] | {"last_reload": None})
    absent = {metric.shown_name for metric in METRICS} - set(exposed)
    assert absent == {
        "btblocker_xdp_packets_total",
        "btblocker_xdp_attached",
        "btblocker_last_reload_duration_seconds",
    }


def _expressions() -> Iterator[tuple[str, str]]:
    """Where a query stands, and the query."""
    alerts = yaml.safe_load((MONITORING / "alerts.yaml").read_text("utf-8"))
    for group in alerts["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    dashboard = json.loads((MONITORING / "dashboard.json").read_text("utf-8"))
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", target["expr"]
    for variable in dashboard["templating"]["list"]:
        yield variable["name"], variable["query"]
    for annotation in dashboard["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]


EXPRESSIONS = list(_expressions())


def _named_metrics(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:btblocker_\w+|up)\b", expression))


@pytest.mark.parametrize("expression", [pytest.param(e, id=where) for where, e in EXPRESSIONS])
def test_what_a_query_names_exists(expression: str) -> None:
    labels = FROM_PROMETHEUS | {
        name: {label for series in values for label, _ in series} | ADDED_LABELS
        for name, values in _exposed().items()
    }
    named = _named_metrics(expression)
    assert named or expression == "prometheus", "a query of nothing"
    assert named <= set(labels)
    known = set().union(*(labels[name] for name in named))
    for listed in re.findall(r"\b(?:by|without|on)\s*\(([^)]*)\)", expression):
        assert {label.strip() for label in listed.split(",")} <= known
    for name, matchers in re.findall(r"(\w+)\{([^}]*)\}", expression):
        for label in re.findall(r"(\w+)\s*=~?", matchers):
            assert label in labels[name]


def test_every_metric_is_on_the_dashboard_or_in_an_alert() -> None:
    queried = set().union(*(_named_metrics(expression) for _, expression in EXPRESSIONS))
    shown = {metric.shown_name for metric in METRICS} - {"btblocker_process_open_files"}
    assert shown <= queried


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads((MONITORING / "dashboard.json").read_text("utf-8"))["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        taken |= cells
