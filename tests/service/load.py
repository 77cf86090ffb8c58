"""Traffic through a gateway while something happens to its blocker."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

from tests.service.traffic import DHT_PING, Datagrams
from tools.lab.namespace import call_in
from tools.lab.program import wait_until
from tools.lab.topology import Line

_SO_RCVBUFFORCE = 33  # include/uapi/asm-generic/socket.h
_BUFFER_B = 16 * 1024 * 1024
_ROUND_S = 0.005
_DATAGRAMS_A_ROUND = 20
_ROUNDS_A_PROBE = 4
_BYTES_A_ROUND = 16 * 1024
_WAIT_S = 10.0
# Packets may wait in a queue for long; the connection must outlive that.
_STREAM_S = 60.0


class Load:
    """Innocent and telling packets through a line of the gateway, for as long as it is open.

    Some thousand numbered datagrams a second, a TCP connection, and fifty probes a second: queries
    of the DHT, of one flow. With `--ban none` a probe that arrives tells that nobody blocked at
    that moment.
    """

    def __init__(self, line: Line, *, probes: bool = True) -> None:
        self._rounds_a_probe = _ROUNDS_A_PROBE if probes else sys.maxsize
        self.sent = 0
        self._arrived: set[int] = set()
        self._probed_s: list[float] = []
        self._passed: set[int] = set()
        self._stream_sent = 0
        self._stream_received = 0
        self.stream_is_whole = False
        """Whether all of the connection's bytes arrived in order; once it is closed."""
        self._open = True
        self._opened = contextlib.ExitStack()
        self._line = line
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Load:
        self._datagrams = self._opened.enter_context(Datagrams(self._line))
        self._probes = self._opened.enter_context(Datagrams(self._line))
        for flow in (self._datagrams, self._probes):
            # This process may have to wait for its turn; that is no loss of the blocker's.
            flow.server.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_B)
        sender, receiver = self._connect()
        parts: list[Callable[[], None]] = [
            self._send,
            self._receive,
            self._receive_probes,
            lambda: self._stream(sender),
            lambda: self._read_stream(receiver),
        ]
        self._threads = [threading.Thread(target=part) for part in parts]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._open = False
        for thread in self._threads:
            thread.join()
        self._opened.close()

    @property
    def missing(self) -> int:
        """Innocent datagrams that have not arrived; once it is closed."""
        return self.sent - len(self._arrived)

    @property
    def probes_passed(self) -> int:
        return len(self._passed)

    @property
    def now(self) -> int:
        """The number of the next probe, to count from."""
        return len(self._probed_s)

    def unblocked_s(self, since: int) -> float:
        """From the probe `since` until the last one that passed was sent; 0 where none has."""
        passed = [self._probed_s[number] for number in self._passed if number >= since]
        return max(passed) - self._probed_s[since] if passed else 0.0

    def blocks(self, probes: int = 25) -> bool:
        """Whether none of the latest probes has passed; waits until there are so many."""
        first = self.now
        wait_until(lambda: self.now >= first + probes, _WAIT_S, "probes are sent")
        time.sleep(0.2)  # for the last one to arrive
        return not any(number >= first for number in self._passed)

    def _connect(self) -> tuple[socket.socket, socket.socket]:
        with call_in(self._line.server.name, socket.socket) as listener:
            listener.bind((self._line.server_address(4), 0))
            listener.listen()
            sender = self._opened.enter_context(call_in(self._line.client.name, socket.socket))
            sender.settimeout(_STREAM_S)
            sender.connect(listener.getsockname())
            receiver = self._opened.enter_context(listener.accept()[0])
        receiver.settimeout(_STREAM_S)
        return sender, receiver

    def _send(self) -> None:
        target, probed = (f.server.getsockname()[:2] for f in (self._datagrams, self._probes))
        for number in _rounds(lambda: self._open):
            for _ in range(_DATAGRAMS_A_ROUND):
                self._datagrams.client.sendto(b"%d" % self.sent, target)
                self.sent += 1
            if number % self._rounds_a_probe == self._rounds_a_probe - 1:
                self._probed_s.append(time.monotonic())
                probe = DHT_PING + b"%d" % (len(self._probed_s) - 1)
                self._probes.client.sendto(probe, probed)

    def _receive(self) -> None:
        for payload in self._payloads(self._datagrams.server):
            self._arrived.add(int(payload))

    def _receive_probes(self) -> None:
        for payload in self._payloads(self._probes.server):
            self._passed.add(int(payload.removeprefix(DHT_PING)))

    def _payloads(self, receiver: socket.socket) -> Iterator[bytes]:
        while True:
            try:
                yield receiver.recv(4096)
            except TimeoutError:
                if not self._open:
                    return

    def _stream(self, sender: socket.socket) -> None:
        for _ in _rounds(lambda: self._open):
            sender.sendall(_pattern(self._stream_sent, _BYTES_A_ROUND))
            self._stream_sent += _BYTES_A_ROUND
        sender.shutdown(socket.SHUT_WR)

    def _read_stream(self, receiver: socket.socket) -> None:
        is_right = True
        while chunk := receiver.recv(65536):
            is_right &= chunk == _pattern(self._stream_received, len(chunk))
            self._stream_received += len(chunk)
        self.stream_is_whole = is_right and self._stream_received == self._stream_sent > 0


_PATTERN = bytes(range(251)) * 400


def _pattern(start: int, length: int) -> bytes:
    """Bytes of a stream in which every place can be told from its neighbours."""
    return _PATTERN[start % 251 : start % 251 + length]


def _rounds(goes_on: Callable[[], bool]) -> Iterator[int]:
    number = 0
    while goes_on():
        yield number
        number += 1
        time.sleep(_ROUND_S)
