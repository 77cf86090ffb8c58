"""Programs that the lab starts: waiting for them, ending them."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.errors import BtblockerError

STOP_TIMEOUT_S = 3.0
_KILL_TIMEOUT_S = 3.0
_POLL_S = 0.1


class LabError(BtblockerError):
    """A part of the lab did not do what it had to: a program died, or was not ready in time."""


def wait_until(ready: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Poll `ready` until it is true; raises LabError naming `what` after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not ready():
        if time.monotonic() > deadline:
            raise LabError(f"lab: {what}: not after {timeout_s:.0f} s")
        time.sleep(_POLL_S)


@dataclass(frozen=True, slots=True)
class Program:
    """A program started in a namespace; `log` holds what it printed on both streams."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def require_alive(self) -> None:
        """Raise LabError with the end of the log if the program has ended."""
        code = self.process.poll()
        if code is not None:
            last = self.log.read_text(errors="replace").strip().splitlines()[-5:]
            raise LabError(f"lab: {self.name} ended with {code}: {' | '.join(last)}")

    def wait_for(self, ready: Callable[[], bool], timeout_s: float) -> None:
        """Wait until `ready`; raises LabError when the program ends or takes too long."""

        def alive_and_ready() -> bool:
            self.require_alive()
            return ready()

        wait_until(alive_and_ready, timeout_s, f"{self.name} ready")

    def listens(self, protocol: Literal["tcp", "udp"], port: int) -> bool:
        """Whether somebody in the program's namespace has a socket on `port` (proc(5))."""
        for table in (protocol, f"{protocol}6"):
            sockets = Path(f"/proc/{self.process.pid}/net/{table}").read_text().splitlines()[1:]
            if any(socket.split()[1].endswith(f":{port:04X}") for socket in sockets):
                return True
        return False

    def stop(
        self,
        first_signal: signal.Signals = signal.SIGTERM,
        *,
        timeout_s: float = STOP_TIMEOUT_S,
    ) -> int:
        """End the program, by force if it does not go in time; returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(first_signal)
            try:
                self.process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait(_KILL_TIMEOUT_S)
