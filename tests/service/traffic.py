"""Datagrams between the lab's client and server, as test traffic."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from tools.lab.addresses import Family
from tools.lab.namespace import call_in
from tools.lab.topology import Line, Topology

ARRIVAL_S = 0.5

# What shipped signatures detect, and what they do not.
DHT_PING = b"d1:ad2:id20:" + bytes(range(20)) + b"e1:q4:ping1:t2:aa1:y1:qe"
INNOCENT = b"nothing to see here"


class Datagrams:
    """A UDP socket on the client and one on the server, with the router between them."""

    def __init__(self, topology: Topology | Line, family: Family = 4, client_port: int = 0) -> None:
        kind = socket.AF_INET if family == 4 else socket.AF_INET6
        self.client_address = topology.client_address(family)
        self.server_address = topology.server_address(family)
        self.client = _bound(topology.client.name, kind, self.client_address, client_port)
        self.server = _bound(topology.server.name, kind, self.server_address, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.client.close()
        self.server.close()

    def pass_through(self, payload: bytes = INNOCENT) -> bool:
        """Send from client to server; whether it arrived."""
        self.client.sendto(payload, self.server.getsockname()[:2])
        return _arrives(self.server, payload)

    def pass_back(self, payload: bytes = INNOCENT) -> bool:
        """Send from server to client; whether it arrived."""
        self.server.sendto(payload, self.client.getsockname()[:2])
        return _arrives(self.client, payload)


def _bound(namespace: str, kind: socket.AddressFamily, address: str, port: int) -> socket.socket:
    made = call_in(namespace, lambda: socket.socket(kind, socket.SOCK_DGRAM))
    made.bind((address, port))
    made.settimeout(ARRIVAL_S)
    return made


def _arrives(receiver: socket.socket, payload: bytes) -> bool:
    with contextlib.suppress(TimeoutError):
        while receiver.recv(4096) != payload:
            pass  # something late from before
        return True
    return False


def tcp_exchange(topology: Topology, payload: bytes, family: Family = 4) -> bytes:
    """Connect from client to server, send, and give what the server read within ARRIVAL_S."""
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    with contextlib.ExitStack() as opened:
        listener = call_in(topology.server.name, lambda: socket.socket(kind))
        opened.enter_context(listener)
        listener.bind((topology.server_address(family), 0))
        listener.listen()
        listener.settimeout(ARRIVAL_S)
        client = call_in(topology.client.name, lambda: socket.socket(kind))
        opened.enter_context(client)
        client.settimeout(ARRIVAL_S)
        client.connect((topology.server_address(family), listener.getsockname()[1]))
        server, _ = listener.accept()
        opened.enter_context(server)
        server.settimeout(ARRIVAL_S)
        client.sendall(payload)
        return b"".join(_received(server, len(payload)))


def _received(connection: socket.socket, wanted: int) -> Iterator[bytes]:
    with contextlib.suppress(TimeoutError):
        while wanted > 0 and (chunk := connection.recv(65536)):
            wanted -= len(chunk)
            yield chunk
