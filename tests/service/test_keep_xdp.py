"""XDP that stays in force while no blocker runs, and what takes it away."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bpffs import BpfFileSystem, bpf_file_system
from tests.service.commands import btblocker
from tests.service.traffic import DHT_PING, INNOCENT, Datagrams
from tools.lab.blocker import run_blocker
from tools.lab.program import LabError
from tools.lab.topology import LAN_INTERFACE, WAN_INTERFACE, Topology

pytestmark = pytest.mark.lab


@pytest.fixture
def bpffs(tmp_path: Path) -> Iterator[BpfFileSystem]:
    with bpf_file_system(tmp_path / "bpf") as mounted:
        yield mounted


def _program(topology: Topology, interface: str) -> dict[str, Any] | None:
    shown = topology.router.run(["ip", "-json", "-details", "link", "show", "dev", interface])
    xdp = json.loads(shown.stdout)[0].get("xdp")
    return None if xdp is None else xdp["attached"][0]["prog"]


@contextlib.contextmanager
def _nothing_arrives(datagrams: Datagrams) -> Iterator[None]:
    """The banned client sends all the time; no packet of its may come through."""
    ends = threading.Event()

    def send() -> None:
        while not ends.wait(0.001):
            datagrams.client.sendto(INNOCENT, datagrams.server.getsockname()[:2])

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        ends.set()
        thread.join()
    arrived = 0
    with contextlib.suppress(TimeoutError):
        while datagrams.server.recv(100):
            arrived += 1
    assert arrived == 0


def test_a_ban_holds_through_kill_restart_and_stop_until_detached(
    topology: Topology, bpffs: BpfFileSystem, tmp_path: Path
) -> None:
    options = ("--keep-xdp", "--state-directory", str(tmp_path))
    with Datagrams(topology) as datagrams:
        with (
            contextlib.suppress(LabError),
            run_blocker(topology, *options, prefix=bpffs.prefix) as blocker,
        ):
            assert not datagrams.pass_through(DHT_PING)
            time.sleep(1.5)  # until the ban is on the disk
            first = _program(topology, LAN_INTERFACE)
            blocker.program.process.kill()
            blocker.program.process.wait()
        with _nothing_arrives(datagrams):
            assert _program(topology, LAN_INTERFACE) == first, "kept"
            with run_blocker(topology, *options, prefix=bpffs.prefix) as blocker:
                second = _program(topology, LAN_INTERFACE)
                assert first and second and first["id"] != second["id"], "taken over"
                assert blocker.status()["bans"]["active"] == 1
                refused = btblocker(topology, "detach", prefix=bpffs.prefix)
                assert refused.returncode == 1
                assert "stop it first" in refused.stderr
            assert _program(topology, LAN_INTERFACE) == second
            assert len(bpffs.pins()) == len(topology.interfaces)

        done = btblocker(topology, "detach", "--json", prefix=bpffs.prefix)
        assert done.returncode == 0
        assert {each["interface"] for each in json.loads(done.stdout)["xdp"]} == {
            LAN_INTERFACE,
            WAN_INTERFACE,
        }
        assert datagrams.pass_through()
        assert not (bpffs.root / "btblocker").exists()
        again = btblocker(topology, "detach", prefix=bpffs.prefix)
        assert (again.returncode, again.stdout) == (0, "nothing of queue 0 was left\n")


def test_one_that_keeps_nothing_takes_over_and_leaves_nothing(
    topology: Topology, bpffs: BpfFileSystem
) -> None:
    with run_blocker(topology, "--keep-xdp", prefix=bpffs.prefix) as blocker:
        assert "without --state-directory" in blocker.program.log.read_text()
    assert len(bpffs.pins()) == len(topology.interfaces)
    # On one of the interfaces alone: what is kept on the others has nobody any more.
    with run_blocker(topology, interfaces=(LAN_INTERFACE,), prefix=bpffs.prefix):
        assert _program(topology, LAN_INTERFACE)
        assert _program(topology, WAN_INTERFACE) is None
        assert bpffs.pins() == []
    assert _program(topology, LAN_INTERFACE) is None
