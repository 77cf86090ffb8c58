"""Bans that outlive their blocker, and disks that let it down."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.commands import COMMAND, answer, btblocker
from tests.service.traffic import DHT_PING, Datagrams
from tools.lab.blocker import run_blocker
from tools.lab.program import LabError, Program, wait_until
from tools.lab.topology import LAN_INTERFACE, Topology

pytestmark = pytest.mark.lab

CLIENT = "10.77.1.2"  # see tools/lab/topology.py
BOTH_WAYS = pytest.mark.parametrize("mode", ["auto", "off"])
ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def folder(topology: Topology) -> Path:
    return topology.folder / "state"


@contextlib.contextmanager
def open_on(
    topology: Topology, folder: Path, mode: str = "off", *options: str
) -> Iterator[Program]:
    """A blocker that keeps its state; it may be killed."""
    with (
        contextlib.suppress(LabError),
        run_blocker(
            topology, "--state-directory", str(folder), "--xdp-mode", mode, *options
        ) as blocker,
    ):
        yield blocker.program


def is_kept(folder: Path, address: str) -> bool:
    """Whether a ban is in the files as they are now, beside the blocker's own lock."""
    copy = folder / "copy.sqlite"
    for suffix in ("", "-wal"):
        (folder / f"copy.sqlite{suffix}").write_bytes(
            (folder / f"queue-0.sqlite{suffix}").read_bytes()
        )
    with contextlib.closing(sqlite3.connect(copy)) as database:
        rows = database.execute("SELECT key FROM bans").fetchall()
    return (address,) in rows


@BOTH_WAYS
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_bans_survive(topology: Topology, folder: Path, mode: str, end: signal.Signals) -> None:
    with Datagrams(topology) as datagrams, Datagrams(topology) as other:
        with open_on(topology, folder, mode) as program:
            assert not datagrams.pass_through(DHT_PING)
            (before,) = answer(topology, "bans")
            if end is signal.SIGKILL:
                wait_until(lambda: is_kept(folder, CLIENT), 10, "written")
            program.stop(end)
        assert datagrams.pass_through(), "nothing is enforced meanwhile"
        with open_on(topology, folder, mode):
            assert not other.pass_through()
            (after,) = answer(topology, "bans")
            same = ("address", "reason", "first_seen", "last_seen", "offences")
            assert [after[name] for name in same] == [before[name] for name in same]
            assert 0 <= before["remaining_s"] - after["remaining_s"] < 120
            btblocker(topology, "unban", CLIENT)
        with open_on(topology, folder, mode):
            assert other.pass_through()


def test_what_was_dropped_is_counted_on(topology: Topology, folder: Path) -> None:
    with Datagrams(topology) as datagrams, Datagrams(topology) as other:
        with open_on(topology, folder):
            assert not datagrams.pass_through(DHT_PING)
            assert not other.pass_through(b"12345")
        with open_on(topology, folder):
            assert not other.pass_through(b"12345")
            wait_until(lambda: answer(topology, "bans")[0]["packets"] == 2, 10, "counted")
            assert answer(topology, "bans")[0]["bytes"] == 2 * (28 + 5)


def test_a_repeater_is_known_after_a_restart(topology: Topology, folder: Path) -> None:
    with Datagrams(topology) as datagrams, Datagrams(topology) as other:
        with open_on(topology, folder, "off", "--ban-duration", "1"):
            assert not datagrams.pass_through(DHT_PING)
            wait_until(lambda: answer(topology, "bans") == [], 10, "over")
        with open_on(topology, folder, "off", "--ban-duration", "100"):
            assert not other.pass_through(DHT_PING)
            (ban,) = answer(topology, "bans")
            assert (ban["offences"], ban["remaining_s"] > 150) == (2, True)


def test_two_blockers_share_a_folder(topology: Topology, folder: Path) -> None:
    with open_on(topology, folder):
        other = topology.spawn(
            topology.router,
            [*COMMAND, "run", "--state-directory", str(folder), "--xdp-mode", "off"],
            name="other",
            environment={"QUEUE_NUM": "7", "PYTHONPATH": str(ROOT)},
        )
        other.wait_for(lambda: "btblocker is ready" in other.log.read_text(), 20)
        answer(topology, "ban", CLIENT, "--queue-num", "7")
        assert answer(topology, "bans") == []
        assert other.stop() == 0
    assert {path.name for path in folder.glob("*.sqlite")} == {"queue-0.sqlite", "queue-7.sqlite"}


def test_a_broken_file_stops_nothing(topology: Topology, folder: Path) -> None:
    folder.mkdir()
    (folder / "queue-0.sqlite").write_bytes(b"SQLite format 3\0" + b"\xff" * 8192)
    with Datagrams(topology) as datagrams:
        with open_on(topology, folder) as program:
            assert "is put aside as" in program.log.read_text()
            assert not datagrams.pass_through(DHT_PING)
            assert answer(topology, "status")["state"]["problem"] is None
        with open_on(topology, folder):
            assert [ban["address"] for ban in answer(topology, "bans")] == [CLIENT]


DISK = "/mnt"
_ON_A_TINY_DISK = f"""
mount -t tmpfs -o size=256k tmpfs {DISK} && exec "$@"
"""


def test_a_full_disk_stops_nothing(topology: Topology) -> None:
    """The disk is a tmpfs in a mount namespace that is the blocker's own and goes with it."""
    program = topology.spawn(
        topology.router,
        [
            *("unshare", "--mount", "sh", "-c", _ON_A_TINY_DISK, "sh"),
            *(*COMMAND, "run", "--manage-rules", "--interface", LAN_INTERFACE),
            *("--state-directory", f"{DISK}/state"),
        ],
        name="btblocker",
        environment={"PYTHONPATH": str(ROOT)},
    )

    def said(words: str) -> bool:
        return words in program.log.read_text()

    program.wait_for(lambda: said("btblocker is ready"), 20)
    stuffing = Path(f"/proc/{program.process.pid}/root{DISK}/stuffing")
    with contextlib.suppress(OSError), stuffing.open("wb", buffering=0) as file:
        while file.write(bytes(1024)):
            pass
    with Datagrams(topology) as datagrams, Datagrams(topology) as other:
        assert datagrams.pass_through()
        assert not datagrams.pass_through(DHT_PING)
        assert not other.pass_through()
        program.wait_for(lambda: said("cannot be written"), 30)
        assert "full" in answer(topology, "status")["state"]["problem"]
        allowed = btblocker(topology, "allow", "192.0.2.1")
        assert "This ends with the blocker" in allowed.stdout
        assert [ban["address"] for ban in answer(topology, "bans")] == [CLIENT]
        assert btblocker(topology, "unban", CLIENT).returncode == 0
        assert other.pass_through()
        stuffing.unlink()
        program.wait_for(lambda: said("are kept again"), 60)
        assert answer(topology, "status")["state"]["problem"] is None
        assert program.stop() == 0
