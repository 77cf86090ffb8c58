"""The control socket answers root alone, and root's commands believe root alone."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.errors import UnavailableError
from engine.service.control import ControlServer, ask

pytestmark = pytest.mark.lab

ROOT = Path(__file__).resolve().parents[2]
# In the namespace of the tests themselves: a number that no blocker has.
QUEUE_NUM = 61000 + os.getpid() % 4000
NAME = f"\0btblocker/queue-{QUEUE_NUM}"

LISTEN = """\
import socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1].replace("@", chr(0)))
listener.listen()
print("listens", flush=True)
while True:
    client, _ = listener.accept()
    client.sendall(b'{"bans": []}' + b"\\n")
"""
SPEAK = """\
import sys
from engine.errors import UnavailableError
from engine.service.control import ask
try:
    print(ask(int(sys.argv[1].rpartition("-")[2]), {"command": "x"}))
except UnavailableError as error:
    print(error)
"""


def _as_nobody(program: str) -> list[str]:
    name = NAME.replace("\0", "@")
    return [
        *("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"),
        *(sys.executable, "-c", program, name),
    ]


@contextmanager
def _an_impostor() -> Iterator[int]:
    """Another user's process that has taken the name; its pid."""
    with subprocess.Popen(_as_nobody(LISTEN), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "listens\n"
            yield process.pid
        finally:
            process.kill()


def test_only_root_is_answered() -> None:
    with ControlServer(QUEUE_NUM, lambda request: {"asked": request["command"]}):
        assert ask(QUEUE_NUM, {"command": "x"}) == {"asked": "x"}
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        for _ in range(3):
            done = subprocess.run(
                _as_nobody(SPEAK), capture_output=True, text=True, check=True, env=environment
            )
            assert done.stdout == "only root may ask\n"


def test_another_user_s_socket_is_not_believed() -> None:
    with _an_impostor() as pid:
        with pytest.raises(UnavailableError, match=f"process {pid} of user 65534 answers"):
            ask(QUEUE_NUM, {"command": "bans"})
        with pytest.raises(UnavailableError, match=f"process {pid} of user 65534, who is not root"):
            ControlServer(QUEUE_NUM, lambda _: {})
    with pytest.raises(UnavailableError, match="no btblocker runs"):
        ask(QUEUE_NUM, {"command": "bans"})


def test_two_blockers_do_not_share_a_queue() -> None:
    with (
        ControlServer(QUEUE_NUM, lambda _: {}),
        pytest.raises(UnavailableError, match="another btblocker serves"),
    ):
        ControlServer(QUEUE_NUM, lambda _: {})


def test_who_says_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.service.control._Connection.timeout", 0.1)
    with (
        ControlServer(QUEUE_NUM, lambda _: {"well": True}),
        socket.socket(socket.AF_UNIX) as silent,
    ):
        silent.connect(NAME)
        silent.settimeout(10)
        assert silent.recv(100) == b""
        assert ask(QUEUE_NUM, {}) == {"well": True}
