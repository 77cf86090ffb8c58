"""Serves metrics over HTTP, in a process of its own that `engine.service.exporter` begins."""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import socket
import sys
import threading
from io import BufferedRWPair
from socketserver import TCPServer
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from engine.privileges import drop_privileges
from engine.service.clients import BoundedClients
from engine.service.metrics import registry
from engine.service.status import Status

MAX_LINE_B = 4096
READY = b"ready\n"
STATUS_WANTED = b"status\n"

_CLIENT_TIMEOUT_S = 10
_DAEMON_TIMEOUT_S = 10
# Clients have one each; some are the process's own.
_MAX_OPEN_FILES = 128


class _Server(BoundedClients, ThreadingWSGIServer):
    def server_bind(self) -> None:
        # Not HTTPServer's: it asks the DNS for our name, and may wait for long.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "btblocker", int(self.server_address[1])
        self.setup_environ()


class _ServerV6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = _CLIENT_TIMEOUT_S

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Strangers write nothing into our log."""


class _Daemon:
    """The other end of our socket."""

    def __init__(self, end: socket.socket) -> None:
        self._stream: BufferedRWPair = end.makefile("rwb")
        self._lock = threading.Lock()

    def hear(self) -> Any:
        """The next message. Raises OSError, ValueError when there is none."""
        return json.loads(self._stream.readline())

    def say(self, line: bytes) -> None:
        self._stream.write(line)
        self._stream.flush()

    def status(self) -> Status:
        """The status of this moment. Raises OSError, ValueError when it cannot be had."""
        with self._lock:
            self.say(STATUS_WANTED)
            status: Status | None = self.hear()
        if status is None:
            raise OSError("the daemon is busy")
        return status


def main() -> None:
    """Serve until the daemon is gone."""
    for number in (signal.SIGINT, signal.SIGHUP):  # the daemon answers these
        signal.signal(number, signal.SIG_IGN)
    end = socket.socket(fileno=int(sys.argv[1]))
    end.settimeout(_DAEMON_TIMEOUT_S)
    daemon = _Daemon(end)
    host, port = daemon.hear()
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (_MAX_OPEN_FILES, _MAX_OPEN_FILES))
        drop_privileges()
        _end_with(end)
        kind = _ServerV6 if ":" in host else _Server
        server = make_server(host, port, make_wsgi_app(registry(daemon.status)), kind, _Handler)
    except OSError as error:
        daemon.say(f"{error.strerror or error}\n".encode())
        return
    daemon.say(READY)
    server.serve_forever()


def _end_with(end: socket.socket) -> None:
    """End this process as soon as the other end of its socket is gone."""

    def wait() -> None:
        poll = select.poll()
        poll.register(end, 0)  # nothing but its end
        poll.poll()
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()
