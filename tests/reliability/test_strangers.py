"""What is not ours: clients of the control socket that speak no JSON, or nothing at all."""

from __future__ import annotations

import contextlib
import random
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from engine.service.clients import MAX_CLIENTS
from tests.reliability.conftest import Measured
from tests.service.load import Load
from tests.service.test_lifecycle import AS_NOBODY
from tools.lab.blocker import run_blocker
from tools.lab.namespace import call_in
from tools.lab.program import wait_until
from tools.lab.topology import Topology

pytestmark = pytest.mark.lab

_CONTROL = "\0btblocker/queue-0"
# Asks again and again without a pause, and is refused.
_PESTER = """
import socket
for _ in range(2000):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect("\\0btblocker/queue-0")
        assert b"only root may ask" in client.recv(100)
"""


def test_garbage_on_the_control_socket(topology: Topology, measured: Measured) -> None:
    with run_blocker(topology, "--ban", "none") as blocker, Load(topology.lines[0]) as load:
        pid = blocker.program.process.pid

        def open_files() -> int:
            return len(list(Path(f"/proc/{pid}/fd").iterdir()))

        def threads() -> int:
            return len(list(Path(f"/proc/{pid}/task").iterdir()))

        def client() -> socket.socket:
            made = call_in(topology.router.name, lambda: socket.socket(socket.AF_UNIX))
            made.connect(_CONTROL)  # waits where many knock
            made.settimeout(10)
            return made

        before = open_files(), threads()
        chance = random.Random(1)
        with contextlib.ExitStack() as kept:
            for number in range(300):
                talker = kept.enter_context(client())
                match number % 4:
                    case 0:  # no line ever ends
                        garbage = chance.randbytes(chance.randrange(1, 70_000))
                        with contextlib.suppress(OSError):
                            talker.sendall(garbage.replace(b"\n", b"\0"))
                    case 1:
                        talker.sendall(b"[" * 50_000 + b"\n")
                    case 2:  # half a request
                        talker.sendall(b'{"command": "sta')
                    case _:  # nothing
                        pass
            assert blocker.status()["queue"]["errors"] == 0, "with all of them connected"
            assert open_files() <= before[0] + MAX_CLIENTS
            assert threads() <= before[1] + MAX_CLIENTS
            nobody = [*AS_NOBODY, sys.executable, "-c", _PESTER]
            subprocess.run(topology.router.command(nobody), check=True, timeout=60)
        wait_until(lambda: (open_files(), threads()) <= before, 20, "nothing stays of them")
        assert "Traceback" not in blocker.program.log.read_text()
    assert load.stream_is_whole
    assert load.missing == 0
    measured(f"0 of {load.sent} innocent datagrams lost; answers `status` all the time")
