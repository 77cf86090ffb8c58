"""Mixed traffic for a gateway: innocent conversations, and BitTorrent from many sources."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from contextlib import ExitStack

from tools.lab.forge import start_forging
from tools.lab.namespace import call_in
from tools.lab.program import Program
from tools.lab.topology import Line

DHT_PING = b"d1:ad2:id20:" + bytes(range(20)) + b"e1:q4:ping1:t2:aa1:y1:qe"
HANDSHAKE = b"\x13BitTorrent protocol" + bytes(48)
INNOCENT = b"nothing to see here, and each time from another port"

# Addresses that have BitTorrent, and those that have not, in turn.
TORRENT_SOURCES = 20_000
INNOCENT_SOURCES = 1_000_000
INNOCENT_FIRST = "100.80.0.0"
_TCP_PAUSE_S = 0.02
_TIMEOUT_S = 20.0


class Conversations:
    """Short TCP connections, one after the other, each checked from end to end.

    Every tenth begins like BitTorrent and must not get through; it is of another client, which
    gets banned.
    """

    def __init__(self, innocent: Line, torrent: Line) -> None:
        self.answered = 0
        self.harmed = 0
        """Innocent ones that got no answer, or another."""
        self.blocked = 0
        self.missed = 0
        """BitTorrent that was answered."""
        self._innocent, self._torrent = innocent, torrent
        self._ends = threading.Event()
        self._opened = ExitStack()

    def __enter__(self) -> Conversations:
        listener = call_in(self._innocent.server.name, socket.socket)
        self._opened.enter_context(listener)
        listener.bind((self._innocent.server_address(4), 0))
        listener.listen(128)
        listener.settimeout(0.5)
        self._threads = [
            threading.Thread(target=self._serve, args=(listener,)),
            threading.Thread(target=self._talk, args=(listener.getsockname(),)),
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join()
        self._opened.close()

    def _serve(self, listener: socket.socket) -> None:
        while not self._ends.is_set():
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    connection.settimeout(0.5)
                    connection.sendall(connection.recv(4096))

    def _talk(self, server: tuple[str, int]) -> None:
        for number in itertools.count():
            if self._ends.wait(_TCP_PAUSE_S):
                return
            is_torrent = number % 10 == 9
            payload = HANDSHAKE if is_torrent else b"request %d" % number
            line = self._torrent if is_torrent else self._innocent
            with call_in(line.client.name, socket.socket) as client:
                client.settimeout(0.3 if is_torrent else _TIMEOUT_S)
                try:
                    client.connect(server)
                    client.sendall(payload)
                    arrived = client.recv(4096) == payload
                except OSError:
                    arrived = False
            if is_torrent:
                self.missed += arrived
                self.blocked += not arrived
            else:
                self.answered += arrived
                self.harmed += not arrived


def start_datagrams(line: Line, *, innocent_a_second: int, torrent_a_second: int) -> list[Program]:
    """Send datagrams in the names of many until these programs are ended."""
    without_end = 10**12
    return [
        start_forging(
            line,
            INNOCENT,
            first=INNOCENT_FIRST,
            sources=INNOCENT_SOURCES,
            count=without_end,
            per_second=innocent_a_second,
            name="innocent",
        ),
        start_forging(
            line,
            DHT_PING,
            sources=TORRENT_SOURCES,
            count=without_end,
            per_second=torrent_a_second,
            name="torrents",
        ),
    ]
