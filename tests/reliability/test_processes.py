"""Processes that end, hang or are pestered, under load: what is lost, and for how long."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from engine.paths import shipped_signatures
from engine.sources.nfqueue import QUEUE_LENGTH
from tests.reliability.conftest import Measured
from tests.service.chat import CHAT
from tests.service.load import Load
from tests.service.traffic import Datagrams
from tools.lab.blocker import Blocker, run_blocker
from tools.lab.program import LabError, wait_until
from tools.lab.topology import Topology

pytestmark = pytest.mark.lab

# So that probes tell of each moment whether somebody blocks.
BAN_NOBODY = ("--ban", "none")


def _open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _cost(load: Load, since: float) -> str:
    """Of a worker that has ended: what it had in hand or in its queue at most, and time."""
    assert load.stream_is_whole
    assert load.missing <= QUEUE_LENGTH
    return (
        f"{load.missing} of {load.sent} innocent datagrams lost; blocked again after "
        f"{load.unblocked_s(since):.1f} s"
    )


def _in_good_order(blocker: Blocker) -> bool:
    queue = blocker.status()["queue"]
    return (queue["queue_dropped"], queue["user_dropped"], queue["errors"]) == (0, 0, 0)


def test_kill_9_of_the_daemon(topology: Topology, measured: Measured) -> None:
    with Load(topology.lines[0]) as load:
        with contextlib.suppress(LabError), run_blocker(topology, *BAN_NOBODY) as blocker:
            assert load.blocks()
            since = load.now
            blocker.program.process.kill()
            blocker.program.process.wait()
        with run_blocker(topology, *BAN_NOBODY) as blocker:
            assert load.blocks()
            assert _in_good_order(blocker)
    measured(f"{_cost(load, since)}, a restart at once included")


def test_kill_9_of_a_worker(topology: Topology, measured: Measured) -> None:
    with run_blocker(topology, *BAN_NOBODY) as blocker, Load(topology.lines[0]) as load:
        assert load.blocks()
        (worker,) = blocker.status()["workers"]
        since = load.now
        os.kill(worker["pid"], signal.SIGKILL)
        wait_until(
            lambda: [w["pid"] for w in blocker.status()["workers"]] not in ([], [worker["pid"]]),
            30,
            "replaced",
        )
        assert load.blocks()
        assert _in_good_order(blocker)
    measured(_cost(load, since))


def test_a_hung_worker(topology: Topology, measured: Measured) -> None:
    with run_blocker(topology, *BAN_NOBODY) as blocker, Load(topology.lines[0]) as load:
        assert load.blocks()
        (worker,) = blocker.status()["workers"]
        since = load.now
        os.kill(worker["pid"], signal.SIGSTOP)
        wait_until(
            lambda: "does not answer and is ended" in blocker.program.log.read_text(), 40, "ended"
        )
        wait_until(lambda: bool(blocker.status()["workers"]), 30, "replaced")
        assert load.blocks()
    # Its queue was full, and what found no room passed.
    measured(_cost(load, since))


def test_a_storm_of_sighup(topology: Topology, tmp_path: Path, measured: Measured) -> None:
    """Each of them opens the logs anew and asks for a reload; the last word holds."""
    file, hups = tmp_path / "chat.yaml", 300
    file.write_text(CHAT.replace("CHAT/1", "CHAT/0"))
    options = ("--signatures", str(tmp_path), *BAN_NOBODY)
    with (
        run_blocker(topology, *options) as blocker,
        Load(topology.lines[0]) as load,
        Datagrams(topology) as datagrams,
    ):
        pid = blocker.program.process.pid
        before = _open_files(pid)
        assert datagrams.pass_through(b"CHAT/1 hello")
        for number in range(hups):
            if number == hups // 2:
                file.write_text(CHAT)
            blocker.reload()
            time.sleep(0.005)
        began_s = time.monotonic()
        wait_until(lambda: not datagrams.pass_through(b"CHAT/1 hello"), 60, "the new one holds")
        took_s = time.monotonic() - began_s
        wait_until(lambda: _open_files(pid) <= before, 30, "nothing stays open")
        assert _in_good_order(blocker)
        signatures = blocker.status()["signatures"]
        assert signatures["reloads"] >= 1
        assert signatures["failed_reloads"] == 0
    assert (load.missing, load.stream_is_whole) == (0, True)
    measured(
        f"0 of {load.sent} innocent datagrams lost; {hups} signals led to "
        f"{signatures['reloads']} reloads, the last in force after {took_s:.1f} s"
    )


SLOW_SIGNATURES = 20


def _slow(number: int) -> str:
    terms = " or ".join(f"(u8({at}) * 3 + u16({at + 1})) % 65521 == {number}" for at in range(60))
    return f"""
id: test.slow.n{number}
title: It looks closely at whatever comes
scope: {{transport: udp}}
prefilter: none
when: |
  {terms}
then: {{action: drop}}
tests:
  - {{expect: match, payload: 'u8(0) u16({number})'}}
  - {{expect: no match, payload: '"x"'}}
"""


def test_slow_signatures(topology: Topology, tmp_path: Path, measured: Measured) -> None:
    """A packet costs a thousand times what it should, until a reload takes them away."""
    shutil.copytree(shipped_signatures(), tmp_path, dirs_exist_ok=True)
    slow = tmp_path / "slow.yaml"
    slow.write_text("---".join(_slow(60_000 + number) for number in range(SLOW_SIGNATURES)))
    with (
        run_blocker(topology, "--signatures", str(tmp_path), *BAN_NOBODY) as blocker,
        Load(topology.lines[0]) as load,
    ):
        log = blocker.program.log
        wait_until(lambda: "a queue is full: what finds no room" in log.read_text(), 60, "full")
        slow.unlink()
        began_s = time.monotonic()
        blocker.reload()
        wait_until(lambda: "no queue is full any longer" in log.read_text(), 60, "empty")
        took_s = time.monotonic() - began_s
        assert load.blocks()
        assert _in_good_order(blocker)
    assert (load.missing, load.stream_is_whole) == (0, True)
    measured(
        f"0 of {load.sent} innocent datagrams lost; the queue was empty again {took_s:.1f} s after "
        "the reload"
    )
