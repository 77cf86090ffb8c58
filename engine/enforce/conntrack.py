"""The kernel's table of connections, over netlink: the only file that speaks ctnetlink.

Messages and attributes are those of include/uapi/linux/netfilter/nfnetlink_conntrack.h. A request
is answered before `send` returns, so nothing here waits for long; a dump comes in pieces.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from dataclasses import dataclass

from engine.errors import UnavailableError
from engine.inspect.packet import reverse

_NETLINK_NETFILTER = 12
_CTNETLINK = 1 << 8  # NFNL_SUBSYS_CTNETLINK
_NEW, _GET = 0, 1
_REQUEST, _ACK, _DUMP = 1, 4, 0x300
_ERROR, _DONE = 2, 3
_NESTED, _ATTRIBUTE = 0x8000, 0x3FFF
# enum ctattr_type, ctattr_tuple, ctattr_ip, ctattr_l4proto
_TUPLE_ORIGINAL, _TUPLE_REPLY, _MARK, _ZONE, _MARK_MASK = 1, 2, 8, 18, 21
_TUPLE_IP, _TUPLE_PROTOCOL = 1, 2
_NUMBER, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3

_HEADER = struct.Struct("=IHHII")
_ANSWER_B = 65536


@dataclass(frozen=True, slots=True)
class Entry:
    """A connection that is tracked.

    `original` and `reply` are the addresses and ports of both directions as packets on the wire
    have them, NAT included: in the kernel's own attributes. `zone` is that attribute's content.
    """

    family: int
    original: bytes
    reply: bytes
    zone: bytes

    def begun_by(self, address: bytes, port: bytes) -> bool:
        """Whether the connection's first packet came from there, in network byte order."""
        return _end(_attributes(self.original)) == (address, port)


class Conntrack:
    """A socket to the table of this process's network namespace."""

    def __init__(self) -> None:
        """Open it. Raises UnavailableError."""
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        except OSError as error:
            raise UnavailableError(f"no netlink to connection tracking: {error}") from error

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def find(self, key: bytes, protocol: int) -> Entry | None:
        """The connection of a packet with this key (see `Packet`), as a rule of ours sees it.

        NAT may have happened to the packet already, or not yet: either it or its answer has the
        addresses of one direction on the wire. Where it has both (source and destination are
        translated), it is not found. Raises UnavailableError where the kernel cannot tell.
        """
        family = socket.AF_INET if len(key) == 12 else socket.AF_INET6
        for way in (key, reverse(key)):
            with contextlib.suppress(FileNotFoundError):
                for entry in self._ask(_GET, 0, family, _tuple(way, protocol)):
                    return entry
        return None

    def marked(self, bits: int) -> list[Entry]:
        """All connections whose mark has all of these bits. Raises UnavailableError."""
        wanted = struct.pack(">I", bits)
        attributes = _attribute(_MARK, wanted) + _attribute(_MARK_MASK, wanted)
        return self._ask(_GET, _DUMP, socket.AF_UNSPEC, attributes)

    def mark(self, entry: Entry, bits: int, mask: int) -> bool:
        """Set those bits of a connection's mark that are in the mask; false where it is gone.

        Raises UnavailableError where the kernel refuses.
        """
        attributes = [
            _attribute(_TUPLE_ORIGINAL | _NESTED, entry.original),
            _attribute(_MARK, struct.pack(">I", bits)),
            _attribute(_MARK_MASK, struct.pack(">I", mask)),
            *([_attribute(_ZONE, entry.zone)] if entry.zone else []),
        ]
        try:
            self._ask(_NEW, _ACK, entry.family, b"".join(attributes))
        except FileNotFoundError:
            return False
        return True

    def _ask(self, kind: int, flags: int, family: int, attributes: bytes) -> list[Entry]:
        """Send a request; gives the entries of the answer. Raises FileNotFoundError for ENOENT."""
        body = struct.pack(">BBH", family, 0, 0) + attributes
        header = _HEADER.pack(16 + len(body), _CTNETLINK | kind, _REQUEST | flags, 0, 0)
        found: list[Entry] = []
        try:
            self._socket.send(header + body)
            while self._take(self._socket.recv(_ANSWER_B), found, to_the_end=bool(flags)):
                pass
        except FileNotFoundError:
            raise
        except OSError as error:
            raise UnavailableError(f"connection tracking refuses: {error.strerror}") from error
        return found

    @staticmethod
    def _take(answer: bytes, found: list[Entry], *, to_the_end: bool) -> bool:
        """Take in one datagram of an answer; whether there are more to come."""
        at = 0
        while at + 16 <= len(answer):
            length, kind, _, _, _ = _HEADER.unpack_from(answer, at)
            if kind == _DONE:
                return False
            if kind == _ERROR:
                (code,) = struct.unpack_from("=i", answer, at + 16)
                if code:
                    raise OSError(-code, os.strerror(-code))
                return False
            attributes = _attributes(answer[at + 20 : at + length])
            found.append(
                Entry(
                    answer[at + 16],
                    attributes.get(_TUPLE_ORIGINAL, b""),
                    attributes.get(_TUPLE_REPLY, b""),
                    attributes.get(_ZONE, b""),
                )
            )
            at += length + 3 & ~3
        return to_the_end


def _tuple(key: bytes, protocol: int) -> bytes:
    """One direction's addresses and ports as an attribute."""
    width = len(key) // 2 - 2
    source, destination = (1, 2) if width == 4 else (3, 4)  # CTA_IP_V4_SRC ... CTA_IP_V6_DST
    addresses = _attribute(source, key[:width]) + _attribute(destination, key[width:-4])
    ports = (
        _attribute(_NUMBER, bytes([protocol]))
        + _attribute(_SOURCE_PORT, key[-4:-2])
        + _attribute(_DESTINATION_PORT, key[-2:])
    )
    return _attribute(
        _TUPLE_ORIGINAL | _NESTED,
        _attribute(_TUPLE_IP | _NESTED, addresses) + _attribute(_TUPLE_PROTOCOL | _NESTED, ports),
    )


def _end(ends: dict[int, bytes]) -> tuple[bytes, bytes]:
    """The source's address and port in a direction's attributes."""
    addresses = _attributes(ends.get(_TUPLE_IP, b""))
    ports = _attributes(ends.get(_TUPLE_PROTOCOL, b""))
    return addresses.get(1) or addresses.get(3) or b"", ports.get(_SOURCE_PORT, b"")


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _attributes(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4:
            break
        found[kind & _ATTRIBUTE] = data[at + 4 : at + length]
        at += length + 3 & ~3
    return found
