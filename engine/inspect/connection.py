"""What the SYNs of a TCP connection say, and how far they are to be believed.

Whoever sends a SYN may have forged it: with a low TTL or a wrong checksum it never reaches the
peer, and inside a connection it changes nothing for its receiver (RFC 5961, section 4). What
the peer acknowledges with a SYN of its own tells which one was real.
"""

from __future__ import annotations

from engine.inspect.flow import FlowTable, Side
from engine.inspect.packet import ACK, Packet, reverse
from engine.inspect.starts import Starts


def synchronise(table: FlowTable, packet: Packet) -> Side:
    """Take note of a SYN; gives its sender's side, of a new flow where it begins one."""
    side = table.side(packet.key)
    flow = side.flow
    first = packet.sequence + 1  # the SYN takes up one number
    if packet.flags & ACK:
        return _answered(table, packet, side)
    if not flow.payload_packets:
        flow.opener = packet.key
    _name_start(side, first)
    return side


def _answered(table: FlowTable, packet: Packet, side: Side) -> Side:
    """The peer's SYN is acknowledged, and with it where the peer's stream begins."""
    flow = side.flow
    peer_key = reverse(packet.key)
    peer = table.side(peer_key)
    begins = packet.acknowledgement
    if flow.payload_packets or flow.dropped:
        starts = peer.awake()
        if starts is not None and starts.expects(begins):
            # Both have agreed on it: the ports are used again, for another connection.
            peer = table.start(peer_key)
            peer.starts = Starts(begins)
            side = table.side(packet.key)
    elif (starts := peer.awake()) is None:
        peer.starts = Starts(begins)
    else:
        starts.begins(begins)
    if side.flow.opener is None:
        side.flow.opener = peer_key
    _name_start(side, packet.sequence + 1)
    return side


def _name_start(side: Side, first: int) -> None:
    starts = side.awake()
    if starts is None:
        side.starts = Starts(first)
    else:
        starts.may_begin(first)
