"""The status of a blocker on a page."""

from __future__ import annotations

import time
from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table

from engine.console.quantile import quantile_s
from engine.service.status import Status


def status_page(status: Status) -> RenderableType:
    """All that matters to an operator, line by line."""
    table = Table.grid(padding=(0, 2))
    for name, text in _lines(status):
        table.add_row(name, text)
    return table


def _lines(status: Status) -> Iterator[tuple[str, str]]:
    mode = " (monitor only: nothing is dropped)" if status["monitor_only"] else ""
    yield (
        "running",
        f"pid {status['pid']}, {duration(status['uptime_s'])}, version {status['version']}{mode}",
    )
    for process in status["processes"]:
        memory = process["resident_bytes"] / 1e6
        yield (
            "",
            f"{process['name']}: {process['cpu_s']:.0f} s of processor time, {memory:.0f} MB, "
            f"{process['open_files']} open files",
        )
    yield from _packets(status)
    yield from _signatures(status)
    bans = status["bans"]
    ended = sum(bans["lifted"].values())
    yield (
        "bans",
        f"{bans['active']} active, {bans['total']} set or renewed, {ended} ended, "
        f"{bans['remembered']} remembered",
    )
    if bans["allowed_networks"]:
        yield "allowed", f"{bans['allowed_networks']} addresses or networks"
    state = status["state"]
    yield "state", state["problem"] or state["file"] or "not kept: no --state-directory"
    detections = status["detections"]
    yield "detections", str(detections["total"])
    for signature, count in sorted(detections["by_signature"].items()):
        yield "", f"{count:>8}  {signature}"
    yield "flows", f"{status['flows']} directions remembered"
    events = status["events"]
    yield "events", f"{events['suppressed']} not told one by one, {events['lost']} not written"
    troubles = ", ".join(f"{count} {what}" for what, count in events["troubles"].items())
    yield "troubles", f"{troubles}: see the log" if troubles else "none"


def _packets(status: Status) -> Iterator[tuple[str, str]]:
    queue, xdp = status["queue"], status["xdp"]
    numbers = ", ".join(str(worker["queue"]) for worker in status["workers"])
    yield (
        "queue" if len(status["workers"]) == 1 else "queues",
        f"{numbers}: {queue['packets']} packets, {queue['dropped']} dropped, "
        f"{queue['waiting']} waiting, "
        f"{queue['queue_dropped'] + queue['user_dropped']} lost, {queue['errors']} errors",
    )
    yield (
        "connections",
        f"{queue['released']} times left to the kernel to pass, {queue['refused']} to be dropped",
    )
    latency = status["latency"]
    if any(latency["counts"]):
        half, most = (quantile_s(latency, share) for share in (0.5, 0.99))
        yield "verdicts", f"half within {microseconds(half)}, 99% within {microseconds(most)}"
    if xdp is None:
        yield "XDP", "off"
    else:
        interfaces = ", ".join(
            [f"{i['name']} ({i['mode']})" for i in xdp["interfaces"]]
            + [f"waiting for {name}" for name in xdp["waits_for"]]
        )
        by_bans = xdp["dropped_source"] + xdp["dropped_destination"]
        dropped = by_bans + xdp["dropped_signature"]
        there = f", {len(xdp['signatures'])} signatures there" if xdp["signatures"] else ""
        yield "XDP", f"{interfaces}: {xdp['passed']} passed, {dropped} dropped{there}"


def _signatures(status: Status) -> Iterator[tuple[str, str]]:
    signatures = status["signatures"]
    yield (
        "signatures",
        f"{signatures['loaded']} from {signatures['folder']} ({signatures['profile']}), "
        f"{signatures['reloads']} reloads, {signatures['failed_reloads']} refused",
    )
    last = signatures["last_reload"]
    if last is not None:
        ago = duration(max(0.0, time.time() - last["time"]))
        outcome = "refused" if last["outcome"] == "refused" else "done"
        yield "", f"latest reload {outcome} {ago} ago, in {last['duration_s']:.1f} s"
        if last["message"]:
            yield "", last["message"].splitlines()[0]


def duration(seconds: float) -> str:
    """A time as people say it: in the two largest units."""
    left = int(seconds)
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or parts or unit == "s":
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def microseconds(seconds: float | None) -> str:
    """A bound of a histogram; None is beyond the last one."""
    return "more than 50 ms" if seconds is None else f"{seconds * 1e6:.0f} µs"
