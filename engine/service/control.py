"""How `btblocker status` and its like reach a running blocker.

An abstract Unix socket named after the queue: like queues and interfaces it belongs to one
network namespace, and it vanishes with its process. A client sends one JSON object on a
line and gets one back; only root is answered.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from engine.errors import BtblockerError, UnavailableError
from engine.service.clients import BoundedClients

TIMEOUT_S = 5.0
MAX_REQUEST_B = 65536

# Runs a request on the blocker's own thread and gives the answer.
Handler = Callable[[dict[str, Any]], Mapping[str, Any]]
# The rest of a request, which the client's own thread can do.
Deferred = Callable[[], Mapping[str, Any]]


def _address(queue_num: int) -> str:
    return f"\0btblocker/queue-{queue_num}"


class _Connection(socketserver.StreamRequestHandler):
    timeout = TIMEOUT_S
    server: _Server

    def handle(self) -> None:
        self.wfile.write(_line(self._answer()))

    def _answer(self) -> Mapping[str, Any]:
        try:
            request = json.loads(self.rfile.readline(MAX_REQUEST_B))
            if not isinstance(request, dict):
                return {"error": "a request is a JSON object"}
            return self.server.handler(request)
        except (ValueError, RecursionError):
            return {"error": "a request is a JSON object on one line"}
        except BtblockerError as error:
            return {"error": str(error)}


class _Server(BoundedClients, socketserver.UnixStreamServer):
    def __init__(self, address: str, handler: Handler) -> None:
        self.handler = handler
        super().__init__(address, _Connection)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether root asks. Nobody else takes a place that root may want."""
        credentials = request.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        if struct.unpack("3i", credentials)[1] in (0, os.geteuid()):
            return True
        with contextlib.suppress(OSError):
            request.sendall(_line({"error": "only root may ask"}))
        return False


def _line(answer: Mapping[str, Any]) -> bytes:
    return json.dumps(answer).encode() + b"\n"


class ControlServer:
    """Answers requests until closed; each connection has its own thread."""

    def __init__(self, queue_num: int, handler: Handler) -> None:
        """Listen. Raises UnavailableError if another blocker serves this queue already."""
        try:
            self._server = _Server(_address(queue_num), handler)
        except OSError as error:
            raise UnavailableError(
                f"another btblocker serves queue {queue_num} here; stop it, or choose another "
                "--queue-num"
            ) from error
        threading.Thread(target=self._server.serve_forever, name="control", daemon=True).start()

    def __enter__(self) -> ControlServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def while_none_runs(queue_num: int) -> Iterator[None]:
    """Keep blockers from this queue. Raises UnavailableError if one runs already."""
    with socket.socket(socket.AF_UNIX) as place:
        try:
            place.bind(_address(queue_num))
        except OSError as error:
            raise UnavailableError(
                f"a btblocker runs on queue {queue_num} here: stop it first"
            ) from error
        yield


def ask(queue_num: int, request: dict[str, Any], *, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
    """Send a request to the blocker on this queue.

    Raises UnavailableError if none runs, if it does not answer in time, or with the reason
    when it refuses.
    """
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            # Until it is connected it blocks: otherwise it would be refused, and not wait, while
            # others knock (unix(7), EAGAIN).
            patience = struct.pack("ll", math.ceil(timeout_s), 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)
            connection.connect(_address(queue_num))
            connection.settimeout(timeout_s)
            with contextlib.suppress(BrokenPipeError):  # who is refused is not heard
                connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as stream:
                answer: dict[str, Any] = json.loads(stream.readline())
    except ConnectionRefusedError as error:
        raise UnavailableError(
            f"no btblocker runs on queue {queue_num} here: start one with `btblocker run`"
        ) from error
    except (OSError, ValueError) as error:
        raise UnavailableError(
            f"the btblocker on queue {queue_num} does not answer: {error}"
        ) from error
    if "error" in answer:
        raise UnavailableError(answer["error"])
    return answer
