"""A status with a different number in every place."""

from __future__ import annotations

import copy
from typing import Any, cast

from engine.service.status import Status
from engine.sources.latency import BOUNDS_S

STATUS: Status = {
    "version": "0.1.0",
    "pid": 4711,
    "started_at": 1_700_000_000.0,
    "uptime_s": 100.0,
    "monitor_only": False,
    "processes": [
        {
            "name": "daemon",
            "pid": 4711,
            "cpu_s": 1.5,
            "resident_bytes": 100_000_000,
            "open_files": 20,
        },
        {
            "name": "worker 0",
            "pid": 4712,
            "cpu_s": 60.5,
            "resident_bytes": 40_000_000,
            "open_files": 6,
        },
    ],
    "queue": {
        "number": 0,
        "packets": 1000,
        "accepted": 900,
        "dropped": 100,
        "errors": 2,
        "unreported": 3,
        "waiting": 4,
        "capacity": 8192,
        "queue_dropped": 11,
        "user_dropped": 12,
        "released": 33,
        "refused": 34,
    },
    "workers": [{"queue": 0, "pid": 4712, "packets": 1000}],
    "latency": {
        "bounds_s": list(BOUNDS_S),
        "counts": [100, 800, 90, 9, 1, *[0] * (len(BOUNDS_S) - 4)],
        "sum_s": 0.0125,
    },
    "signatures": {
        "folder": "/etc/btblocker/signatures",
        "profile": "balanced",
        "loaded": 8,
        "loaded_at": 1_700_000_050.0,
        "reloads": 2,
        "failed_reloads": 1,
        "last_reload": {
            "time": 1_700_000_060.0,
            "outcome": "refused",
            "duration_s": 0.75,
            "message": "error[S010]: syntax error\n  --> a.yaml:1:1",
        },
    },
    "flows": 64,
    "detections": {
        "total": 7,
        "by_signature": {"a.b": 5, "c.d": 2},
        "latest": [
            {
                "schema": 1,
                "time": 1_700_000_070.5,
                "event": "detection",
                "signature": "a.b",
                "rev": 1,
                "action": "block",
                "transport": "udp",
                "source": "10.0.0.1:1",
                "destination": "10.0.0.2:2",
                "flow_packet": 1,
                "payload_packet": 1,
                "tunnelled": False,
                "in_driver": False,
                "monitor_only": False,
                "banned": ["10.0.0.1"],
            }
        ],
    },
    "bans": {
        "active": 6,
        "remembered": 2,
        "allowed_networks": 1,
        "total": 9,
        "lifted": {"expired": 3},
    },
    "state": {"file": "/var/lib/btblocker/queue-0.sqlite", "problem": None},
    "xdp": {
        "interfaces": [{"name": "eth0", "mode": "native"}],
        "waits_for": ["wg0"],
        "passed": 20,
        "dropped_source": 21,
        "dropped_destination": 22,
        "dropped_signature": 23,
        "signatures": ["bittorrent.tracker.udp.connect"],
    },
    "events": {"suppressed": 13, "lost": 14, "troubles": {"xdp": 1}},
}


def status(**changed: Any) -> Status:
    """The same with other values for some keys."""
    return cast(Status, copy.deepcopy(STATUS) | changed)
