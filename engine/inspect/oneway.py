"""Detections in flows that only one side had sent anything in, until the other one does.

Anyone can send one packet in another's name. Whoever it went to has not seen it, since it was
dropped, and will answer only if the two do speak with each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from engine.inspect.judgement import Detection
from engine.inspect.packet import decode, reverse

MAX_WAITING = 16384


class OneWayFlows:
    """The last of them, by the key of the direction that was detected."""

    def __init__(self) -> None:
        self._waiting: dict[bytes, tuple[Detection, ...]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def note(self, detections: Sequence[Detection]) -> None:
        """Remember those of one packet that may ban, if the other side has said nothing yet."""
        if not detections or detections[0].two_way:
            return
        detections = [found for found in detections if found.action == "block"]
        if not detections:
            return
        if len(self._waiting) >= MAX_WAITING:
            del self._waiting[next(iter(self._waiting))]
        again = tuple(replace(found, two_way=True, repeated=True) for found in detections)
        self._waiting[detections[0].key] = again

    def waits_for(self, datagram: bytes) -> bool:
        """Whether the flow of this datagram has detections that wait for the other side."""
        if not self._waiting:
            return False
        packet = decode(datagram)
        return packet is not None and (
            packet.key in self._waiting or reverse(packet.key) in self._waiting
        )

    def answered(self, datagram: bytes) -> tuple[Detection, ...]:
        """What was detected before and proves two-way by this datagram, of a dropped flow."""
        if not self._waiting:
            return ()
        packet = decode(datagram)
        return () if packet is None else self._waiting.pop(reverse(packet.key), ())
