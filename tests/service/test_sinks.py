"""Files, syslog and standard output as lines arrive there."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from engine.service.outlet import MAX_WAITING, Outlet
from engine.service.sinks import AppendFile, Syslog, open_sink
from tools.lab.program import wait_until


def test_a_file_is_appended_to_and_private(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for text in (b"one\n", b"two\n"):
        sink = open_sink(str(path))
        sink.write(text)
        sink.close()
    assert path.read_bytes() == b"one\ntwo\n"
    assert stat.S_IMODE(path.stat().st_mode) & 0o027 == 0


def test_a_file_that_cannot_be_opened_anew_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    sink = AppendFile(folder / "log")
    moved = folder.rename(tmp_path / "moved")
    with pytest.raises(FileNotFoundError):
        sink.reopen()
    sink.write(b"still here\n")
    sink.close()
    assert (moved / "log").read_bytes() == b"still here\n"


def test_a_fifo_without_a_reader_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="No such device or address"):
        AppendFile(tmp_path / "fifo")


class _SyslogDaemon:
    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(5)

    def received(self) -> bytes:
        return self._socket.recv(65536)

    def close(self) -> None:
        self._socket.close()


def test_syslog_gets_lines_and_may_be_restarted(tmp_path: Path) -> None:
    path = tmp_path / "log"
    daemon = _SyslogDaemon(path)
    sink = Syslog(path)
    sink.write(b'{"schema":1}\n')
    received = daemon.received()
    assert received.startswith(b"<30>")
    assert received.endswith(b' btblocker[%d]: {"schema":1}' % os.getpid())
    daemon.close()
    with pytest.raises(ConnectionRefusedError):
        sink.write(b"lost\n")
    daemon = _SyslogDaemon(path)
    sink.write(b"again\n")
    assert daemon.received().endswith(b": again")
    sink.close()
    daemon.close()


def test_standard_output_gets_lines() -> None:
    program = "from engine.service.sinks import open_sink\nopen_sink('stdout').write(b'a line\\n')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b"a line\n"


class _Slow:
    """A sink that hangs until it is let go."""

    def __init__(self) -> None:
        self.written: list[int] = []
        self.may_go = threading.Event()

    def write(self, item: int) -> None:
        self.may_go.wait()
        self.written.append(item)

    def reopen(self) -> None:
        raise AssertionError

    def close(self) -> None:
        self.written.append(-1)


def test_a_sink_that_hangs_holds_nobody_up() -> None:
    sink = _Slow()
    outlet = Outlet("slow", sink)
    for number in range(MAX_WAITING + 10):
        outlet.put(number)
    # One of them may have been taken already.
    assert outlet.lost in (9, 10)
    assert outlet.failure == "it does not keep up"
    sink.may_go.set()
    outlet.close()
    wait_until(lambda: sink.written[-1:] == [-1], 5, "all written, and closed")
    assert sink.written[:-1] == list(range(MAX_WAITING + 10 - outlet.lost))
    assert outlet.failure is None
