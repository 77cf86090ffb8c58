"""The first message of a TLS client (RFC 8446, section 4.1.2)."""

from __future__ import annotations

from dataclasses import dataclass

from engine.language.vocabulary import VIEW_BITS, Implied

# A handshake record that begins with a ClientHello.
IMPLIED = Implied(r"^\x16\x03.{3}\x01", VIEW_BITS)

_HANDSHAKE_RECORD = 22
_CLIENT_HELLO = 1
_SERVER_NAME = 0
_ALPN = 16
MAX_RECORDS = 8


@dataclass(frozen=True, slots=True)
class ClientHello:
    """What a client says in the clear.

    `complete` says whether all of it has arrived: what is missing then is not there.
    `version` is the legacy version field; `sni` the server name in lower case (RFC 6066);
    `alpn` the first protocol it offers (RFC 7301). Both are None where they are not there,
    or have not arrived.
    """

    version: int
    sni: bytes | None
    alpn: bytes | None
    complete: bool


class _Reader:
    """Takes fields off the front of bytes; `cut` once more was wanted than there is."""

    __slots__ = ("_data", "_position", "cut")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0
        self.cut = False

    def __bool__(self) -> bool:
        return not self.cut and self._position < len(self._data)

    def take(self, count: int) -> bytes:
        data = self._data[self._position : self._position + count]
        self._position += count
        self.cut |= len(data) < count
        return data

    def number(self, width: int) -> int:
        return int.from_bytes(self.take(width), "big")

    def vector(self, length_width: int) -> bytes:
        """A field that says its own length first."""
        return self.take(self.number(length_width))


def parse_client_hello(stream: bytes) -> ClientHello | None:
    """The ClientHello that a stream begins with, None if it does not begin with one.

    It may be spread over several records, and cut: what has arrived is read.
    """
    arrived = _handshake_bytes(stream)
    message = _Reader(arrived)
    if message.number(1) != _CLIENT_HELLO:
        return None
    complete = len(arrived) >= 4 + message.number(3)
    version = message.number(2)
    message.take(32)  # random
    message.vector(1)  # session id
    message.vector(2)  # cipher suites
    message.vector(1)  # compression methods
    if message.cut or version >> 8 != 3:
        return None
    message.number(2)  # length of all extensions
    sni = alpn = None
    while message:
        kind = message.number(2)
        body = _Reader(message.vector(2))
        if message.cut:
            break
        if kind == _SERVER_NAME:
            body.number(2)
            if body.number(1) == 0:  # host_name, the only type there is
                sni = body.vector(2).lower() or None
        elif kind == _ALPN:
            body.number(2)
            alpn = body.vector(1) or None
    return ClientHello(version, sni, alpn, complete)


def _handshake_bytes(stream: bytes) -> bytes:
    """What the handshake records at the start of a stream carry, put together."""
    records = _Reader(stream)
    parts = []
    for _ in range(MAX_RECORDS):
        if records.number(1) != _HANDSHAKE_RECORD or records.number(2) >> 8 != 3:
            break
        part = records.vector(2)
        if not part:  # never empty (RFC 8446, section 5.1)
            break
        parts.append(part)
    return b"".join(parts)
