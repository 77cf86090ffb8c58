"""`btblocker top`: what a blocker is doing now, in a terminal or as JSON."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from engine.console.rates import Rates, rates
from engine.console.status import duration, microseconds
from engine.service.status import Status

_MOST_SIGNATURES = 15


def show_top(ask: Callable[[], Status], console: Console, interval_s: float) -> None:
    """Show rates until Ctrl-C; once, where the console is no terminal."""
    looks = _looks(ask, interval_s)
    if not console.is_terminal:
        console.print(_page(*next(looks)), soft_wrap=True)
        return
    with (
        contextlib.suppress(KeyboardInterrupt),
        Live(console=console, auto_refresh=False, screen=not console.is_dumb_terminal) as live,
    ):
        live.update(Text("the first figures come in a moment; Ctrl-C ends"), refresh=True)
        for status, found in looks:
            live.update(_page(status, found), refresh=True)


def stream_top(ask: Callable[[], Status], interval_s: float) -> None:
    """Print one JSON object a line for each interval, until Ctrl-C or nobody reads."""
    with contextlib.suppress(KeyboardInterrupt):
        for _, found in _looks(ask, interval_s):
            print(json.dumps(found.as_json()), flush=True)


def _looks(ask: Callable[[], Status], interval_s: float) -> Iterator[tuple[Status, Rates]]:
    """The status at the end of each interval, and what happened in it."""
    before = ask()
    while True:
        time.sleep(interval_s)
        after = ask()
        yield after, rates(before, after)
        before = after


def _page(status: Status, found: Rates) -> RenderableType:
    return Group(
        _heading(status),
        Text(),
        _figures(status, found),
        Text(),
        _by_signature(found),
        Text(),
        _latest(status),
    )


def _heading(status: Status) -> Text:
    signatures = status["signatures"]
    text = Text.assemble(
        ("btblocker", "bold"),
        f" {status['version']}, pid {status['pid']}, up {duration(status['uptime_s'])}, "
        f"{signatures['loaded']} signatures",
    )
    if status["monitor_only"]:
        text.append(", monitor only", style="yellow")
    troubles = sum(status["events"]["troubles"].values())
    if troubles:
        text.append(f", {troubles} troubles: see the log", style="red")
    return text


def _figures(status: Status, found: Rates) -> Table:
    table = Table.grid(padding=(0, 3))
    for _ in range(4):
        table.add_column(justify="right")
    table.add_row("a second", "", "now", "", style="dim")
    full = found.waiting > found.capacity // 2
    rows = (
        ("packets judged", found.packets_per_s, "waiting", f"{found.waiting}/{found.capacity}"),
        ("dropped", found.dropped_per_s, "flows", f"{found.flows}"),
        ("lost", found.lost_per_s, "bans", f"{found.bans}"),
        ("detections", found.detections_per_s, "half of verdicts", _within(found.verdict_p50_s)),
        ("bans", found.bans_per_s, "99% of verdicts", _within(found.verdict_p99_s)),
    )
    for name, rate, other, value in rows:
        alarming = (name == "lost" and rate > 0) or (other == "waiting" and full)
        table.add_row(name, f"{rate:,.1f}", other, value, style="red" if alarming else "")
    if status["xdp"] is not None:
        table.add_row("XDP passed", f"{found.xdp_passed_per_s:,.1f}", "", "")
        table.add_row("XDP dropped", f"{found.xdp_dropped_per_s:,.1f}", "", "")
    return table


def _within(seconds: float | None) -> str:
    return "" if seconds is None else f"within {microseconds(seconds)}"


def _by_signature(found: Rates) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("a second", justify="right")
    table.add_column("in all", justify="right")
    table.add_column("signature")
    for signature in found.signatures[:_MOST_SIGNATURES]:
        table.add_row(f"{signature.per_s:,.1f}", f"{signature.total:,}", signature.id)
    more = len(found.signatures) - _MOST_SIGNATURES
    if more > 0:
        table.add_row("", "", f"and {more} more", style="dim")
    return table


def _latest(status: Status) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("latest detection", "from", "to", "banned"):
        table.add_column(column, no_wrap=True)
    for event in reversed(status["detections"]["latest"]):
        moment = time.strftime("%H:%M:%S", time.localtime(event["time"]))
        table.add_row(
            f"{moment} {event['signature']}",
            event["source"],
            event["destination"],
            ", ".join(event["banned"]),
        )
    return table
