"""Where lines go: a file, standard output or standard error, syslog."""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
import time
from pathlib import Path
from typing import Final, Literal

from engine.service.outlet import Sink

SYSLOG_SOCKET = Path("/dev/log")
_READABLE_BY_GROUP = 0o640
# RFC 5424, section 6.2.1: facility daemon, severity informational.
_PRIORITY: Final = 3 << 3 | 6


def open_sink(name: str) -> Sink[bytes]:
    """The sink of this name: `stdout`, `syslog`, or else a file's. Raises OSError."""
    if name == "stdout":
        return StandardStream("stdout")
    return Syslog() if name == "syslog" else AppendFile(Path(name))


class AppendFile:
    """A file that only grows, by whole pieces: what does not fit leaves no part behind."""

    def __init__(self, path: Path) -> None:
        """Open or create it. Raises OSError."""
        self.path = path
        self._descriptor = _opened(path)

    @property
    def size_b(self) -> int:
        """How long it is; 0 for what is not a regular file."""
        status = os.fstat(self._descriptor)
        return status.st_size if stat.S_ISREG(status.st_mode) else 0

    def write(self, data: bytes) -> None:
        """Append all of `data` or nothing. Raises OSError, for instance for a full disk."""
        before = self.size_b
        written = os.write(self._descriptor, data)
        if written < len(data):  # the beginning of a line would spoil the next one
            os.ftruncate(self._descriptor, before)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def reopen(self) -> None:
        """Go on in whatever bears its name now. Raises OSError, and stays with the old one."""
        descriptor = _opened(self.path)
        self.close()
        self._descriptor = descriptor

    def close(self) -> None:
        os.close(self._descriptor)


def _opened(path: Path) -> int:
    # Not blocking: a FIFO that nobody reads would hold the start up for ever.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
    return os.open(path, flags, _READABLE_BY_GROUP)


class StandardStream:
    """Standard output or standard error; a journal or a terminal reads it."""

    def __init__(self, name: Literal["stdout", "stderr"]) -> None:
        self._descriptor = (sys.stdout if name == "stdout" else sys.stderr).fileno()

    def write(self, data: bytes) -> None:
        """Write a line. Raises OSError when nobody reads any longer."""
        while data:
            data = data[os.write(self._descriptor, data) :]

    def reopen(self) -> None:
        """It has no name to open anew."""

    def close(self) -> None:
        """It is not ours."""


class Syslog:
    """The machine's syslog or journal, each line a datagram (RFC 3164) to its socket."""

    def __init__(self, path: Path = SYSLOG_SOCKET) -> None:
        """Connect. Raises OSError."""
        self._path = path
        self._socket = self._connected()

    def write(self, data: bytes) -> None:
        """Send a line, connecting anew if the daemon was restarted. Raises OSError."""
        now = time.strftime("%b %e %H:%M:%S")
        text = data.rstrip(b"\n")
        datagram = f"<{_PRIORITY}>{now} btblocker[{os.getpid()}]: ".encode() + text
        try:
            self._socket.send(datagram)
        except OSError:
            self.reopen()
            self._socket.send(datagram)

    def reopen(self) -> None:
        """Connect anew. Raises OSError."""
        connected = self._connected()
        self.close()
        self._socket = connected

    def close(self) -> None:
        self._socket.close()

    def _connected(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            made.connect(str(self._path))
        except OSError:
            made.close()
            raise
        return made
