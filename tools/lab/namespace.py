"""Network namespaces: running commands and opening sockets in them."""

from __future__ import annotations

import ctypes
import os
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tools.lab.program import LabError

T = TypeVar("T")

_COMMAND_TIMEOUT_S = 10.0
_CLONE_NEWNET = 0x40000000


@dataclass(frozen=True, slots=True)
class Namespace:
    """One network namespace; commands run in it as root."""

    name: str

    def command(self, argv: Sequence[str]) -> list[str]:
        """`argv` as it has to be called from outside the namespace."""
        # Should the lab itself be killed, the kernel ends its programs too.
        return ["ip", "netns", "exec", self.name, "setpriv", "--pdeathsig", "KILL", *argv]

    def run(
        self, argv: Sequence[str], *, timeout_s: float = _COMMAND_TIMEOUT_S, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run `argv` to its end; with `check`, LabError tells a failure."""
        done = subprocess.run(
            self.command(argv), capture_output=True, text=True, timeout=timeout_s, check=False
        )
        if check and done.returncode:
            raise LabError(f"lab: {' '.join(argv)}: {(done.stderr or done.stdout).strip()}")
        return done


def call_in(namespace: str, function: Callable[[], T]) -> T:
    """Call a function in a namespace: sockets and devices it opens stay there, we do not."""
    outcome: list[T] = []

    def enter_and_call() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        handle = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
        try:
            # Only this thread enters, and it ends with the call.
            if libc.setns(handle, _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
        finally:
            os.close(handle)
        outcome.append(function())

    thread = threading.Thread(target=enter_and_call)
    thread.start()
    thread.join()
    if not outcome:
        raise RuntimeError(f"the call in {namespace} failed; see the thread's traceback")
    return outcome[0]
