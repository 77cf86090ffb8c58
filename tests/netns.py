"""Throw-away network namespaces: what is made in them goes away with them."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Callable
from typing import Any, Self, TypeVar

from tools.lab.namespace import call_in

T = TypeVar("T")


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


def connect(a: Namespace, a_interface: str, b: Namespace, b_interface: str) -> None:
    """Join two namespaces by a veth pair that is up."""
    ends = ["name", a_interface, "netns", a.name, "type", "veth"]
    ends += ["peer", "name", b_interface, "netns", b.name]
    subprocess.run(["ip", "link", "add", *ends], check=True)
    a.run(["ip", "link", "set", "dev", a_interface, "up"])
    b.run(["ip", "link", "set", "dev", b_interface, "up"])
