"""What one look at a packet or stream knows: the payload, the endpoints, the flow so far."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine.fields.turns import NO_TURNS, Turns


def _nobody_tagged(_host: bytes, _name: str) -> bool:
    return False


class Context:
    """The bytes under inspection and who sent them.

    `source` and `destination` are addresses in network byte order (4 or 16 bytes);
    `flow_packets` counts the packets of the flow seen so far, both ways, this one included,
    `payload_packets` those with a payload; `from_client` says whether the side that opened the
    flow has sent this one, None where that was not seen. `tagged(host, name)` says whether a
    host bears a tag now.
    """

    __slots__ = (
        "_views",
        "destination",
        "destination_port",
        "flow_packets",
        "from_client",
        "payload",
        "payload_packets",
        "source",
        "source_port",
        "tagged",
        "turns",
    )

    def __init__(
        self,
        payload: bytes,
        source: bytes = bytes(4),
        destination: bytes = bytes(4),
        source_port: int = 0,
        destination_port: int = 0,
        flow_packets: int = 1,
        payload_packets: int = 1,
        from_client: bool | None = None,
        turns: Turns = NO_TURNS,
        tagged: Callable[[bytes, str], bool] = _nobody_tagged,
    ) -> None:
        self.payload = payload
        self.source = source
        self.destination = destination
        self.source_port = source_port
        self.destination_port = destination_port
        self.flow_packets = flow_packets
        self.payload_packets = payload_packets
        self.from_client = from_client
        self.turns = turns
        self.tagged = tagged
        self._views: dict[Callable[[bytes], Any], Any] = {}

    def view(self, parse: Callable[[bytes], Any]) -> Any:
        """What a protocol's parser makes of the payload, parsed once and only if asked for."""
        try:
            return self._views[parse]
        except KeyError:
            parsed = self._views[parse] = parse(self.payload)
            return parsed
