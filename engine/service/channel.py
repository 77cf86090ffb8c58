"""The processes that work for the daemon, and its messages to and from them.

A Unix socket keeps messages apart, so that neither side waits for the rest of one; what is large
travels as an open file. Both ends run the same program: messages are pickled objects. But who reads
strangers' packets may one day say something else than it should, and pickle can be told to call
anything: so only objects that do nothing are made of what is received.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import socket
import subprocess
import sys
from dataclasses import is_dataclass
from enum import Enum
from pathlib import Path, PosixPath
from typing import Any, BinaryIO, Self

from pydantic import BaseModel

import engine

MAX_MESSAGE_B = 128 * 1024


class _Unpickler(pickle.Unpickler):
    """Makes values, dataclasses, models, tuples and enumerations of ours, and paths."""

    def find_class(self, module: str, name: str) -> type:
        place = module, name
        if place not in _made:
            _made[place] = _harmless(module, name)
        return _made[place]


_made: dict[tuple[str, str], type] = {("pathlib", "PosixPath"): PosixPath}


def _harmless(module: str, name: str) -> type:
    # Nothing is imported for it: its sender may have chosen the name.
    found = getattr(sys.modules.get(module), name, None) if module.startswith("engine.") else None
    if not (
        isinstance(found, type)
        and found.__module__ == module
        and (is_dataclass(found) or issubclass(found, tuple | Enum | BaseModel))
    ):
        raise pickle.UnpicklingError(f"{module}.{name} is no part of a message")
    return found


def load(file: BinaryIO) -> Any:
    """The object that was pickled into a file. Raises EOFError where there is none of ours."""
    try:
        return _Unpickler(file).load()
    except Exception as error:  # pickle's own, or whatever a made-up one leads to
        raise EOFError(str(error)) from error


class Channel:
    """One end of the messages between two processes."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        end.setblocking(False)

    @classmethod
    def to_parent(cls) -> Self:
        """The end that `start_process` has left to this process."""
        return cls(socket.socket(fileno=int(sys.argv[1])))

    def fileno(self) -> int:
        """Readable when a message waits, or the other end is gone."""
        return self._socket.fileno()

    def send(self, message: object, file: BinaryIO | None = None) -> bool:
        """Send a message, and an open file with it.

        False when it cannot be sent: the other end is gone, or has not read for long.
        """
        data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        files = [] if file is None else [file.fileno()]
        with contextlib.suppress(BlockingIOError, ConnectionError):
            socket.send_fds(self._socket, [data], files)
            return True
        return False

    def send_pickled(self, message: object, content: object) -> bool:
        """Send a message, and with it a file with an object that may be large."""
        with memory_file("btblocker-message") as file:
            pickle.dump(content, file, pickle.HIGHEST_PROTOCOL)
            file.flush()
            return self.send(message, file)

    def receive(self, timeout_s: float | None = None) -> tuple[Any, BinaryIO | None]:
        """The next message, and the file that came with it, at its beginning.

        Waits `timeout_s` for one, or for as long as it takes. Raises EOFError when the other end
        is gone or says what is no message of ours, TimeoutError.
        """
        self._socket.settimeout(timeout_s)
        try:
            data, files = self._read()
        except BlockingIOError:
            raise TimeoutError from None
        finally:
            self._socket.setblocking(False)
        if not data:
            raise EOFError
        file = _own(files[0]) if files else None
        try:
            return load(io.BytesIO(data)), file
        except EOFError:
            if file is not None:
                file.close()
            raise

    def _read(self) -> tuple[bytes, list[int]]:
        try:
            data, files, _, _ = socket.recv_fds(self._socket, MAX_MESSAGE_B, 1)
        except ConnectionError:
            # The other end is gone and had not read all. The kernel says so before it gives out
            # what was sent, and once.
            data, files, _, _ = socket.recv_fds(self._socket, MAX_MESSAGE_B, 1)
        return data, files

    def finish(self) -> None:
        """Say no more: the other end reads what was sent, and then EOFError."""
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Neither say nor hear any more."""
        self._socket.close()


def _own(descriptor: int) -> BinaryIO:
    """The file behind a descriptor, with a position of its own: the sender's is shared."""
    try:
        return Path(f"/proc/self/fd/{descriptor}").open("rb")
    finally:
        os.close(descriptor)


def memory_file(name: str) -> BinaryIO:
    """A file without a place on disk, to write and send."""
    return os.fdopen(os.memfd_create(name), "w+b")


def start_process(module: str) -> tuple[subprocess.Popen[bytes], Channel]:
    """Run the `main` of a module of ours in a process of its own, with a channel to it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        return run_main(module, theirs), Channel(ours)


def run_main(module: str, end: socket.socket) -> subprocess.Popen[bytes]:
    """The same with a socket of the caller's, whose number is its argument.

    A new interpreter, not a fork: the parent holds BPF maps, sockets and threads.
    """
    # -P: whatever folder we were started in, nothing in it is imported.
    place = str(Path(engine.__file__).parent.parent)
    path = os.pathsep.join(filter(None, (place, os.environ.get("PYTHONPATH"))))
    run = f"from {module} import main; main()"
    return subprocess.Popen(
        [sys.executable, "-P", "-c", run, str(end.fileno())],
        stdin=subprocess.DEVNULL,
        pass_fds=[end.fileno()],
        env={**os.environ, "PYTHONPATH": path},
    )
