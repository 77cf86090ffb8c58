"""How `btblocker status` and its like reach a running blocker.

An abstract Unix socket named after the queue: like queues and interfaces it belongs to one
network namespace, and it vanishes with its process. A client sends one JSON object on a
line and gets one back; only root is answered. Any user may take such a name first, so a client
asks as well who it is that answers.
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
from io import BufferedIOBase
from typing import Any, NamedTuple

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


class _Peer(NamedTuple):
    """Who is at the other end, as of when it connected or began to listen: struct ucred."""

    pid: int
    user: int
    group: int

    @property
    def trusted(self) -> bool:
        return self.user in (0, os.geteuid())


def _peer(connection: socket.socket) -> _Peer:
    return _Peer(
        *struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    )


class _Connection(socketserver.StreamRequestHandler):
    timeout = TIMEOUT_S
    server: _Server

    def handle(self) -> None:
        self.wfile.write(_line(answer_to(self.rfile, self.server.handler)))


class _Server(BoundedClients, socketserver.UnixStreamServer):
    def __init__(self, address: str, handler: Handler) -> None:
        self.handler = handler
        super().__init__(address, _Connection)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether root asks. Nobody else takes a place that root may want."""
        if _peer(request).trusted:
            return True
        with contextlib.suppress(OSError):
            request.sendall(_line({"error": "only root may ask"}))
        return False


def _line(answer: Mapping[str, Any]) -> bytes:
    return json.dumps(answer).encode() + b"\n"


def answer_to(client: BufferedIOBase, handler: Handler) -> Mapping[str, Any]:
    """Read a request, whatever it is, and give the answer to it. Raises OSError."""
    try:
        request = json.loads(client.readline(MAX_REQUEST_B))
        if not isinstance(request, dict):
            return {"error": "a request is a JSON object"}
        return handler(request)
    except (ValueError, RecursionError):
        return {"error": "a request is a JSON object on one line"}
    except BtblockerError as error:
        return {"error": str(error)}


class ControlServer:
    """Answers requests until closed; each connection has its own thread."""

    def __init__(self, queue_num: int, handler: Handler) -> None:
        """Listen. Raises UnavailableError if another blocker serves this queue already."""
        try:
            self._server = _Server(_address(queue_num), handler)
        except OSError as error:
            raise UnavailableError(
                f"{_holder(queue_num)} serves queue {queue_num} here; stop it, or choose another "
                "--queue-num"
            ) from error
        threading.Thread(target=self._server.serve_forever, name="control", daemon=True).start()

    def __enter__(self) -> ControlServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _holder(queue_num: int) -> str:
    """Who has the name of a queue's socket, in words."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(TIMEOUT_S)
        connection.connect(_address(queue_num))
        peer = _peer(connection)
        if not peer.trusted:
            return f"process {peer.pid} of user {peer.user}, who is not root,"
    return "another btblocker"


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
            if not (peer := _peer(connection)).trusted:
                raise UnavailableError(
                    f"process {peer.pid} of user {peer.user} answers for queue {queue_num} here, "
                    "and is no blocker: stop it"
                )
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
