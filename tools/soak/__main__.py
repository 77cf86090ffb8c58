"""A blocker under mixed traffic for minutes or hours: memory, descriptors, threads."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import subprocess
import sys
import time
from typing import Any

from rich.console import Console
from rich.table import Table

from engine.errors import BtblockerError
from tools.lab.blocker import Blocker, run_blocker
from tools.lab.program import LabError, wait_until
from tools.lab.topology import Topology
from tools.soak.sample import Sample, take
from tools.soak.traffic import Conversations, start_datagrams
from tools.soak.verdict import complaints

# Flows are forgotten when the table is full: until it is, memory grows by design. Each of these
# packets is of a new one.
WARM_UP_PACKETS = 150_000
_WARM_UP_TIMEOUT_S = 300.0
_SAMPLE_S = 1.0
_RELOAD_S = 5.0
_INNOCENT_A_SECOND = 8_000
_TORRENT_A_SECOND = 300
# So that what takes hours on a gateway happens all the time.
_OPTIONS = (
    *("--ban-duration", "2", "--ban-growth", "1", "--ban-memory", "5", "--cleanup-interval", "1"),
    *("--metrics-listen", "127.0.0.1:9810", "--log-limit", "10", "--log-limit-total", "3000"),
)
_ROWS = 20
# What asking for the status raises where the machine does not start a command in time.
_TOO_BUSY = (LabError, subprocess.TimeoutExpired)


def main() -> int:
    """Print how it went; 1 where something has grown, or harm was done."""
    parser = argparse.ArgumentParser(prog="python -m tools.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="after the warm-up (default: 5)")
    parser.add_argument("--json", action="store_true", help="print everything in JSON")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # it has much to clean up
    try:
        found = soak(options.minutes * 60)
    except BtblockerError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        _show(found)
    return int(bool(found["complaints"]))


def soak(duration_s: float) -> dict[str, Any]:
    """Run it. Gives the samples, what the blocker has done meanwhile, and what was wrong."""
    with Topology((4,), (4,)) as topology:
        line, other = topology.lines
        # A closed port would answer each datagram by ICMP.
        line.server.run(["iptables", "-t", "raw", "-A", "PREROUTING", "-p", "udp", "-j", "DROP"])
        state = ("--state-directory", str(topology.folder / "state"))
        with run_blocker(topology, *_OPTIONS, *state) as blocker:
            senders = start_datagrams(
                line, innocent_a_second=_INNOCENT_A_SECOND, torrent_a_second=_TORRENT_A_SECOND
            )
            with Conversations(line, other) as talk:
                wait_until(
                    lambda: _packets(blocker) >= WARM_UP_PACKETS,
                    _WARM_UP_TIMEOUT_S,
                    "the table of flows is full",
                )
                before = blocker.status()
                samples = _watch(blocker, duration_s)
                after = blocker.status()
            # On a machine that it keeps busy the blocker could not stop in time.
            for sender in senders:
                sender.stop()
    done = _done(before, after)
    found = complaints(samples)
    if talk.harmed:
        found.append(f"{talk.harmed} innocent connections got no answer")
    # A full queue lets packets pass, and says so.
    if talk.missed and "packets-unjudged" not in after["events"]["troubles"]:
        found.append(f"{talk.missed} BitTorrent connections were answered")
    if done["errors"]:
        found.append(f"{done['errors']} packets were accepted unjudged: an error of ours")
    return {
        "samples": [sample.as_json() for sample in samples],
        "done": done,
        "connections": {
            "innocent": talk.answered,
            "blocked": talk.blocked,
            "passed": talk.missed,
        },
        "complaints": found,
    }


def _packets(blocker: Blocker) -> int:
    """Packets judged; 0 where that cannot be had now."""
    with contextlib.suppress(*_TOO_BUSY):
        return int(blocker.status()["queue"]["packets"])
    return 0


def _watch(blocker: Blocker, duration_s: float) -> list[Sample]:
    pid = blocker.program.process.pid
    samples: list[Sample] = []
    began_s = time.monotonic()
    next_reload_s = 0.0
    while (at_s := time.monotonic() - began_s) < duration_s:
        if at_s >= next_reload_s:
            next_reload_s = at_s + _RELOAD_S
            blocker.reload()
        with contextlib.suppress(*_TOO_BUSY):
            status = blocker.status()
            samples.append(take(pid, round(at_s, 1), status["flows"], status["bans"]["active"]))
        time.sleep(_SAMPLE_S)
    return samples


def _done(before: dict[str, Any], after: dict[str, Any]) -> dict[str, int]:
    """What has happened between two looks."""

    def grown(*names: str) -> int:
        ends = []
        for status in (before, after):
            value: Any = status
            for name in names:
                value = value[name]
            ends.append(value)
        return int(ends[1] - ends[0])

    return {
        "packets": grown("queue", "packets"),
        "detections": grown("detections", "total"),
        "bans": grown("bans", "total"),
        "bans_ended": sum(after["bans"]["lifted"].values())
        - sum(before["bans"]["lifted"].values()),
        "reloads": grown("signatures", "reloads"),
        "errors": grown("queue", "errors"),
    }


def _show(found: dict[str, Any]) -> None:
    table = Table("after", "memory", "open files", "threads", "flows", "bans")
    samples = found["samples"]
    for sample in samples[:: max(1, len(samples) // _ROWS)]:
        table.add_row(
            f"{sample['at_s']:.0f} s",
            f"{sample['pss_kb'] / 1024:.1f} MiB",
            str(sample["open_files"]),
            str(sample["threads"]),
            f"{sample['flows']:,}",
            f"{sample['bans']:,}",
        )
    out = Console(highlight=False)
    out.print(table)
    done = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in found["done"].items())
    connections = found["connections"]
    out.print(f"meanwhile: {done}")
    out.print(
        f"connections: {connections['innocent']:,} innocent, all answered; "
        f"{connections['blocked']:,} of BitTorrent blocked, {connections['passed']:,} passed "
        "while the queue was full"
    )
    for complaint in found["complaints"]:
        out.print(f"[red]{complaint}[/red]")
    if not found["complaints"]:
        out.print("nothing has grown")


if __name__ == "__main__":
    sys.exit(main())
