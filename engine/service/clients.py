"""Servers that many may connect to: each client has a thread, and there is a bound."""

from __future__ import annotations

import contextlib
import socket
import threading
from socketserver import BaseServer, ThreadingMixIn
from typing import Any

MAX_CLIENTS = 64


class BoundedClients(ThreadingMixIn, BaseServer):
    """A thread for each client. Where there are `MAX_CLIENTS` already, the oldest gives way.

    Without a bound, clients that say nothing would use up the process's descriptors; then nobody
    could be accepted, and the server would try again without a pause. Were the newest turned away
    instead, 64 of them could keep everybody out.
    """

    daemon_threads = True
    block_on_close = False
    # Those who knock while the oldest is turned out.
    request_queue_size = MAX_CLIENTS

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._places = threading.BoundedSemaphore(MAX_CLIENTS)
        # In the order in which they came.
        self._connected: dict[socket.socket, None] = {}
        self._lock = threading.Lock()
        super().__init__(*arguments, **options)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._places.acquire(blocking=False):
            self._turn_out_the_oldest()
            self._places.acquire()
        with self._lock:
            self._connected[request] = None
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread to be had
            self._leave(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._leave(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away or says nothing concerns nobody else."""

    def _leave(self, request: socket.socket) -> None:
        with self._lock:
            self._connected.pop(request, None)
        self._places.release()

    def _turn_out_the_oldest(self) -> None:
        with self._lock, contextlib.suppress(OSError, StopIteration):
            # Its thread reads the end, and closes the socket itself.
            oldest = next(iter(self._connected))
            del self._connected[oldest]
            oldest.shutdown(socket.SHUT_RDWR)
