"""What one look at a packet or stream knows: the payload, the endpoints, the views of both."""

from __future__ import annotations

from engine.fields.bencode import Dictionary, parse
from engine.fields.utp import UtpHeader, parse_header

_NOT_PARSED = object()


class Context:
    """The payload under inspection and who sent it; protocol views are parsed when first read.

    `source` and `destination` are addresses in network byte order (4 or 16 bytes);
    `flow_packets` counts the packets of the flow seen so far, both ways, this one included.
    """

    __slots__ = (
        "_bencode",
        "_utp",
        "destination",
        "destination_port",
        "flow_packets",
        "payload",
        "source",
        "source_port",
    )

    def __init__(
        self,
        payload: bytes,
        source: bytes = bytes(4),
        destination: bytes = bytes(4),
        source_port: int = 0,
        destination_port: int = 0,
        flow_packets: int = 1,
    ) -> None:
        self.payload = payload
        self.source = source
        self.destination = destination
        self.source_port = source_port
        self.destination_port = destination_port
        self.flow_packets = flow_packets
        self._bencode: object = _NOT_PARSED
        self._utp: object = _NOT_PARSED

    @property
    def bencode(self) -> Dictionary | None:
        """The bencoded dictionary that the payload begins with."""
        if self._bencode is _NOT_PARSED:
            self._bencode = parse(self.payload)
        return self._bencode  # type: ignore[return-value]

    @property
    def utp(self) -> UtpHeader | None:
        """The uTP header that the payload begins with."""
        if self._utp is _NOT_PARSED:
            self._utp = parse_header(self.payload)
        return self._utp  # type: ignore[return-value]
