"""What systemd hears, as its own socket hears it."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.service.notify import ServiceManager
from tools.lab.blocker import run_blocker
from tools.lab.topology import Topology


class Manager:
    """Has the socket that NOTIFY_SOCKET names."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(10)
        self.path = path

    def hear(self) -> dict[str, str]:
        lines = self.socket.recv(4096).decode().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def until(self, name: str) -> dict[str, str]:
        """The next news with this assignment."""
        while name not in (news := self.hear()):
            pass
        return news


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path / "notify")
    with made.socket:
        yield made


def test_nobody_asked() -> None:
    silent = ServiceManager({})
    silent.ready("well")
    silent.alive()
    assert silent.alive_interval_s is None


def test_the_watchdog_hears_at_half_its_time_and_children_know_nothing(manager: Manager) -> None:
    environment = {
        "NOTIFY_SOCKET": str(manager.path),
        "WATCHDOG_USEC": "3000000",
        "WATCHDOG_PID": str(os.getpid()),
        "PATH": "/bin",
    }
    told = ServiceManager(environment)
    assert environment == {"PATH": "/bin"}
    assert told.alive_interval_s == 1.5
    for _ in range(3):
        told.alive()
    told.stopping()
    assert manager.hear() == {"WATCHDOG": "1"}
    assert manager.hear()["STOPPING"] == "1", "no more often than asked"


def test_the_watchdog_of_another_process_is_none_of_ours() -> None:
    assert ServiceManager({"WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}).alive_interval_s is None


def test_an_abstract_socket_and_one_that_is_gone() -> None:
    name = f"btblocker-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(f"\0{name}")
        told = ServiceManager({"NOTIFY_SOCKET": f"@{name}"})
        told.ready("well")
        assert heard.recv(100) == b"READY=1\nSTATUS=well"
    told.ready("nobody listens")


@pytest.mark.lab
def test_a_blocker_tells_its_whole_life(topology: Topology, manager: Manager) -> None:
    prefix = ("env", f"NOTIFY_SOCKET={manager.path}", "WATCHDOG_USEC=400000")
    with run_blocker(topology, "--xdp-mode", "off", prefix=prefix) as blocker:
        assert manager.hear() == {"STATUS": "compiling signatures"}
        ready = manager.hear()
        assert ready["READY"] == "1"
        assert "queue 0, " in ready["STATUS"]
        for _ in range(3):
            assert manager.hear() == {"WATCHDOG": "1"}

        before_us = time.monotonic_ns() // 1000
        blocker.reload()
        reloading = manager.until("RELOADING")
        assert before_us <= int(reloading["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
        manager.until("READY")

        # A loop that does not turn says nothing, and turns again.
        process = blocker.program.process
        process.send_signal(signal.SIGSTOP)
        manager.socket.settimeout(1)
        with pytest.raises(TimeoutError):
            for _ in range(10):  # what was on its way
                manager.hear()
        manager.socket.settimeout(10)
        process.send_signal(signal.SIGCONT)
        manager.until("WATCHDOG")
    manager.until("STOPPING")
