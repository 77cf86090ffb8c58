"""A filter in a namespace, and a way to talk to it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.netns import Namespace

ROOT = Path(__file__).parents[2]
DEADLINE_S = 10.0


def wait_until(condition: Callable[[], bool]) -> bool:
    """False if the condition has not become true before the deadline."""
    end = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def monotonic_in(seconds: float) -> int:
    """A time on CLOCK_MONOTONIC, in nanoseconds."""
    return time.monotonic_ns() + int(seconds * 1e9)


def wire(address: str) -> bytes:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.inet_pton(family, address)


@dataclass(frozen=True)
class Counters:
    passed: int
    dropped_source: int
    dropped_destination: int
    dropped_signature: int


class FilterProcess:
    """xdp_process.py in a namespace. `refusal` holds why it did not attach."""

    def __init__(
        self,
        namespace: Namespace,
        interfaces: str,
        mode: str,
        *,
        prefix: tuple[str, ...] = (),
        banned: bytes | None = None,
    ) -> None:
        """With somebody `banned`, its links are kept."""
        script = str(Path(__file__).with_name("xdp_process.py"))
        self.process = namespace.popen(
            [
                *prefix,
                sys.executable,
                script,
                interfaces,
                mode,
                *([banned.hex()] if banned else []),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        greeting = self._read()
        self.refusal: str = greeting.get("refusal", "")
        self.exit_code: int = greeting.get("exit_code", 0)
        self.attachments: list[dict[str, Any]] = greeting.get("attachments", [])

    def ban(self, address: str, expires_ns: int) -> None:
        self._call("ban", wire(address).hex(), expires_ns)

    def unban(self, address: str) -> bool:
        return bool(self._call("unban", wire(address).hex()))

    def banned(self) -> dict[bytes, int]:
        return {address: expires for address, (expires, _, _) in self._bans().items()}

    def hits(self, address: str) -> tuple[int, int]:
        """The packets and bytes that a ban has dropped."""
        _, packets, dropped_b = self._bans()[wire(address)]
        return packets, dropped_b

    def allow_only(self, *networks: str, let_alone: tuple[str, ...] = ()) -> None:
        self._call("allow_only", networks, let_alone)

    def _bans(self) -> dict[bytes, tuple[int, int, int]]:
        return {bytes.fromhex(address): (*ban,) for address, *ban in self._call("banned")}

    def counters(self) -> Counters:
        return Counters(**self._call("counters"))

    def close_in_child(self) -> int:
        return int(self._call("close_in_child"))

    def close(self) -> str:
        """End it in order; returns what it wrote on standard error."""
        _, complaints = self.process.communicate(timeout=DEADLINE_S)
        return complaints

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def _call(self, *request: Any) -> Any:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the filter process died: {self.process.communicate()[1]}")
        return json.loads(line)


def attached_program(namespace: Namespace, interface: str) -> dict[str, Any] | None:
    """What `ip` says about the XDP program of an interface: id, name; None without one."""
    shown = namespace.run(["ip", "-j", "-d", "link", "show", "dev", interface])
    xdp = json.loads(shown.stdout)[0].get("xdp")
    return None if xdp is None else xdp["attached"][0]["prog"]
