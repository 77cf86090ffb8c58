"""Throw-away network namespaces: what is made in them goes away with them."""

from __future__ import annotations

import ctypes
import os
import secrets
import subprocess
import threading
from collections.abc import Callable
from typing import Any, Self, TypeVar

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000


class Namespace:
    """A network namespace with a name of its own on this machine, as a context manager.

    Leaving it ends the processes that `popen` started and deletes the namespace, with its
    interfaces and rules.
    """

    def __init__(self, label: str) -> None:
        self.name = f"bt-{label}-{secrets.token_hex(4)}"
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        self.run(["ip", "link", "set", "dev", "lo", "up"])
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.communicate()
        subprocess.run(["ip", "netns", "delete", self.name], check=True)

    def run(self, command: list[str], *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run to the end; raises with the command's own words if it fails."""
        done = subprocess.run(self._inside(command), capture_output=True, text=True, check=False)
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr or done.stdout}")
        return done

    def popen(self, command: list[str], **options: Any) -> subprocess.Popen[str]:
        """Start a process whose life ends with the namespace; its pid is the command's own."""
        process = subprocess.Popen(self._inside(command), text=True, **options)
        self._processes.append(process)
        return process

    def call(self, function: Callable[[], T]) -> T:
        """Call a function inside; see `call_in`."""
        return call_in(self.name, function)

    def add_address(self, interface: str, address: str) -> None:
        # IPv6 would otherwise wait for duplicate address detection.
        nodad = ["nodad"] if ":" in address else []
        self.run(["ip", "address", "add", address, "dev", interface, *nodad])

    def _inside(self, command: list[str]) -> list[str]:
        return ["ip", "netns", "exec", self.name, *command]


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


def connect(a: Namespace, a_interface: str, b: Namespace, b_interface: str) -> None:
    """Join two namespaces by a veth pair that is up."""
    ends = ["name", a_interface, "netns", a.name, "type", "veth"]
    ends += ["peer", "name", b_interface, "netns", b.name]
    subprocess.run(["ip", "link", "add", *ends], check=True)
    a.run(["ip", "link", "set", "dev", a_interface, "up"])
    b.run(["ip", "link", "set", "dev", b_interface, "up"])
