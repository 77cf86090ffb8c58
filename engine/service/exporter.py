"""The process that serves metrics, as the daemon sees it.

What strangers connect to is kept apart from what holds the bans: the process runs as nobody,
has one socket to the daemon, and can say nothing on it but that it wants the status. Should it
die, it is begun anew; packets and bans never wait for it.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from subprocess import Popen, TimeoutExpired
from types import TracebackType
from typing import IO, Self

from engine.config import Listen
from engine.errors import BtblockerError, InputError
from engine.service.channel import run_main
from engine.service.metrics_server import MAX_LINE_B, READY, STATUS_WANTED
from engine.service.status import Status

_START_TIMEOUT_S = 20.0
_STOP_TIMEOUT_S = 2.0


class Exporter:
    """The process. A context manager: it ends with it."""

    def __init__(self, listen: Listen, ask: Callable[[], Status]) -> None:
        """Serve on an address; `ask` is called on another thread. Raises InputError."""
        self._listen = listen
        self._ask = ask
        self._process: Popen[bytes]
        self._end: socket.socket
        started: SimpleQueue[bytes] = SimpleQueue()
        self._begin(started)
        try:
            said = started.get(timeout=_START_TIMEOUT_S)
        except Empty:
            said = b"it does not start"
        if said != READY:
            self.close()
            reason = said.decode(errors="replace").strip() or "the process has ended"
            raise InputError(f"cannot serve metrics on {listen.host}:{listen.port}: {reason}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self._let_go()
        self._process.terminate()
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def revive(self) -> str | None:
        """Begin anew if the process has ended; gives what to say of it, None if it is well."""
        code = self._process.poll()
        if code is None:
            return None
        self._let_go()
        self._begin(SimpleQueue())
        return f"the process that serves metrics has ended (exit code {code}) and is begun anew"

    def _begin(self, started: SimpleQueue[bytes]) -> None:
        self._end, theirs = socket.socketpair()
        with theirs:
            self._process = run_main("engine.service.metrics_server", theirs)
        threading.Thread(
            target=self._serve,
            args=(self._end.makefile("rwb"), started),
            name="exporter",
            daemon=True,
        ).start()

    def _let_go(self) -> None:
        with contextlib.suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)
        self._end.close()

    def _serve(self, stream: IO[bytes], started: SimpleQueue[bytes]) -> None:
        """Answer the process for as long as it keeps to what it may say."""
        with contextlib.suppress(OSError), stream:
            _send(stream, self._listen)
            started.put(stream.readline(MAX_LINE_B))
            while stream.readline(MAX_LINE_B) == STATUS_WANTED:
                try:
                    status = self._ask()
                except (BtblockerError, TimeoutError):
                    _send(stream, None)
                else:
                    _send(stream, status)


def _send(stream: IO[bytes], message: object) -> None:
    stream.write(json.dumps(message).encode() + b"\n")
    stream.flush()
