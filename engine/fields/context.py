"""What one look at a packet or stream knows: the payload, the endpoints, the flow so far."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Context:
    """The bytes under inspection and who sent them.

    `source` and `destination` are addresses in network byte order (4 or 16 bytes);
    `flow_packets` counts the packets of the flow seen so far, both ways, this one included.
    """

    __slots__ = (
        "_views",
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
        self._views: dict[Callable[[bytes], Any], Any] = {}

    def view(self, parse: Callable[[bytes], Any]) -> Any:
        """What a protocol's parser makes of the payload, parsed once and only if asked for."""
        try:
            return self._views[parse]
        except KeyError:
            parsed = self._views[parse] = parse(self.payload)
            return parsed
