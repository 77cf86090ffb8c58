"""Pages for people: what stands on them, whatever the terminal."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from engine.console.status import status_page
from engine.console.top import show_top, stream_top
from engine.service.status import Status
from tests.service.statuses import STATUS, status


def printed(**changed: object) -> str:
    out = io.StringIO()
    Console(file=out, width=200).print(status_page(status(**changed)))
    return out.getvalue()


def test_the_status_says_what_matters() -> None:
    page = printed()
    for said in (
        "pid 4711, 1 min 40 s, version 0.1.0",
        "worker 0: 60 s of processor time, 40 MB",
        "0: 1000 packets, 100 dropped, 4 waiting, 23 lost, 2 errors",
        "half within 10 µs, 99% within 20 µs",
        "eth0 (native), waiting for wg0: 20 passed, 66 dropped, 1 signatures there",
        "8 from /etc/btblocker/signatures (balanced), 2 reloads, 1 refused",
        "latest reload refused",
        "error[S010]: syntax error",
        "6 active, 9 set or renewed, 3 ended, 2 remembered",
        "1 addresses or networks",
        "/var/lib/btblocker/queue-0.sqlite",
        "5  a.b",
        "13 not told one by one, 14 not written",
        "1 xdp: see the log",
    ):
        assert said in page
    assert "monitor" not in page


def test_the_status_without_what_may_be_missing() -> None:
    page = printed(
        monitor_only=True,
        state={"file": None, "problem": None},
        bans=STATUS["bans"] | {"allowed_networks": 0},
        xdp=None,
        signatures=STATUS["signatures"] | {"last_reload": None},
        events=STATUS["events"] | {"troubles": {}},
        latency=STATUS["latency"] | {"counts": [0] * len(STATUS["latency"]["counts"])},
        workers=[{"queue": queue, "pid": queue, "packets": 1} for queue in (2, 3)],
    )
    assert "monitor only: nothing is dropped" in page
    assert "queues" in page
    assert "2, 3: 1000 packets" in page
    assert "latest reload" not in page
    assert "verdicts" not in page
    assert "allowed" not in page
    assert "not kept: no --state-directory" in page
    assert "none" in page


class Blocker:
    """Answers as one that takes ten packets a second; Ctrl-C comes after some answers."""

    def __init__(self, answers: int) -> None:
        self.left = answers
        self.seconds = 0

    def __call__(self) -> Status:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        self.seconds += 1
        packets = STATUS["queue"] | {"packets": 1000 + 10 * self.seconds}
        return status(uptime_s=100.0 + self.seconds, queue=packets)


@pytest.mark.parametrize("colour", ["auto", None])
def test_top_shows_each_interval_until_ctrl_c(colour: str | None) -> None:
    out = io.StringIO()
    console = Console(
        file=out,
        width=120,
        force_terminal=True,
        color_system="standard" if colour else None,
        no_color=colour is None,
        _environ={"TERM": "xterm"},
    )
    show_top(Blocker(4), console, 0)
    shown = out.getvalue()
    assert shown.count("packets judged") >= 3
    assert "a.b" in shown
    assert "10.0.0.1:1" in shown
    assert ("\x1b[31m" in shown) is (colour is not None), "troubles are red"


def test_top_of_a_dumb_terminal_takes_no_screen() -> None:
    out = io.StringIO()
    console = Console(file=out, width=120, force_terminal=True, _environ={"TERM": "dumb"})
    show_top(Blocker(3), console, 0)
    assert "\x1b[?1049h" not in out.getvalue()
    assert "packets judged" in out.getvalue()


def test_top_streams_an_object_for_each_interval(capsys: pytest.CaptureFixture[str]) -> None:
    stream_top(Blocker(4), 0)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["packets_per_s"] for line in lines] == [10, 10, 10]
    assert {"time", "interval_s", "signatures", "waiting", "bans"} <= set(lines[0])
