"""`btblocker top` and `status`, of a running blocker."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.service.traffic import DHT_PING, INNOCENT, Datagrams
from tools.lab.blocker import run_blocker
from tools.lab.program import Program, wait_until
from tools.lab.topology import Topology

pytestmark = pytest.mark.lab

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "engine.cli"]
ON_THE_QUEUE_ALONE = ("--xdp-mode", "off")


def test_top_streams_json(topology: Topology) -> None:
    with run_blocker(topology, *ON_THE_QUEUE_ALONE), Datagrams(topology) as datagrams:
        program = topology.spawn(
            topology.router, [*COMMAND, "top", "--json", "--interval", "0.5"], name="top"
        )

        def objects() -> list[dict[str, Any]]:
            lines = program.log.read_text().split("\n")[:-1]
            return [json.loads(line) for line in lines]

        program.wait_for(lambda: len(objects()) >= 1, 20)
        for _ in range(100):
            assert datagrams.pass_through(INNOCENT)
        assert not datagrams.pass_through(DHT_PING)
        seen = len(objects())
        program.wait_for(lambda: len(objects()) >= seen + 2, 20)
        assert program.stop(signal.SIGINT) == 0
        packets = sum(each["packets_per_s"] * each["interval_s"] for each in objects())
        assert round(packets) == 101
        last = objects()[-1]
        assert last["bans"] == 1
        assert [each["id"] for each in last["signatures"]] == ["bittorrent.dht.query"]


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Both ends of a terminal."""
    master, slave = os.openpty()
    yield master, slave
    os.close(master)
    with contextlib.suppress(OSError):
        os.close(slave)


def test_top_is_live_in_a_terminal_and_ends_cleanly(
    topology: Topology, terminal: tuple[int, int]
) -> None:
    master, slave = terminal
    with run_blocker(topology, *ON_THE_QUEUE_ALONE), Datagrams(topology) as datagrams:
        datagrams.pass_through(DHT_PING)
        process = subprocess.Popen(
            topology.router.command([*COMMAND, "top", "--interval", "0.2"]),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "TERM": "xterm", "PYTHONPATH": str(ROOT), "COLUMNS": "120"},
        )
        program = Program("top", process, topology.folder / "none")
        shown = b""
        os.set_blocking(master, False)

        def shows_twice() -> bool:
            nonlocal shown
            with contextlib.suppress(BlockingIOError):
                shown += os.read(master, 65536)
            return shown.count(b"packets judged") >= 2

        wait_until(shows_twice, 20, "shown twice")
        assert b"bittorrent.dht.query" in shown
        assert program.stop(signal.SIGINT) == 0
        with contextlib.suppress(BlockingIOError, OSError):
            shown += os.read(master, 65536)
        assert b"Traceback" not in shown
        # The terminal's own screen and its cursor are back.
        assert shown.rindex(b"\x1b[?1049l") > shown.rindex(b"\x1b[?1049h")
        assert shown.rindex(b"\x1b[?25h") > shown.rindex(b"\x1b[?25l")


def test_top_prints_once_where_there_is_no_terminal(topology: Topology) -> None:
    with run_blocker(topology, *ON_THE_QUEUE_ALONE), Datagrams(topology) as datagrams:
        datagrams.pass_through(DHT_PING)
        done = topology.router.run([*COMMAND, "top", "--interval", "0.2"])
        assert done.stdout.count("packets judged") == 1
        assert "\x1b" not in done.stdout
        page = topology.router.run([*COMMAND, "status"]).stdout
        assert "bittorrent.dht.query" in page
        assert "half within" in page
    done = topology.router.run([*COMMAND, "top"], check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "no btblocker runs on queue 0 here" in done.stderr
