"""Packets in, verdicts out: the one path that the queue and the capture reader share."""

from __future__ import annotations

import struct

from engine.compiler.ruleset import Bank, RuleSet
from engine.config import DEFAULT_MAX_FLOWS
from engine.fields.socks import udp_header_len
from engine.fields.turns import HEAD_B
from engine.inspect.connection import synchronise
from engine.inspect.flow import MAX_HELD_B, Flow, FlowTable
from engine.inspect.followed import NOT_BEGUN, FollowedTurns
from engine.inspect.judgement import ACCEPTED, DROPPED, SETTLED, Judge, Judgement, Verdict, both
from engine.inspect.packet import ACK, SYN, TCP, UDP, Packet, decode, reverse
from engine.inspect.preface import MAY_BE_PREFACES, preface_of_proxy, preface_to_proxy
from engine.inspect.starts import MIDDLE_SEGMENTS, Settled, Starts
from engine.inspect.stream import StreamStart

# Of an IPv4 header without options and the transport header behind it: version and length,
# total length, fragment, protocol, addresses and ports, UDP's length and checksum.
_COMMON = struct.Struct(">BxHxxHxBxx12sHxx").unpack_from
# Of a TCP header behind the same: both sequence numbers, data offset, flags.
_COMMON_TCP = struct.Struct(">24xIIBB").unpack_from
# More packets than a flow has.
_NEVER = 1 << 62
# Packets of a flow that is due, between two looks; odd, because segments and acknowledgements may
# take turns, and both must come up.
_LOOK_AGAIN = 7


class Inspector:
    """Judges packets with a RuleSet and what it remembers of their flows.

    `ruleset` may be replaced between two packets; flows and tags live on.
    """

    def __init__(
        self,
        ruleset: RuleSet,
        *,
        max_flows: int = DEFAULT_MAX_FLOWS,
        max_held_b: int = MAX_HELD_B,
        settles_every: int = _NEVER,
    ) -> None:
        """After `settles_every` packets of a TCP flow, and as many again, it may be `SETTLED`."""
        self.ruleset = ruleset
        self._settles_every = settles_every
        self._udp = FlowTable(max_flows)
        self._tcp = FlowTable(max_flows, first_seen_opens=False, max_held_b=max_held_b)
        self._judge = Judge()
        self.tags = self._judge.tags

    def inspect(self, datagram: bytes, now_s: float) -> Judgement:
        """Judge one IP datagram, given from its first header byte.

        `now_s` is in seconds on a clock of the caller's that does not go back. What is not
        TCP or UDP is accepted.
        """
        try:
            first, total_len, fragment, protocol, key, udp_len = _COMMON(datagram)
        except struct.error:
            return ACCEPTED  # too short for any transport header
        if (
            protocol == UDP
            and first == 0x45
            and not fragment & 0x3FFF
            and udp_len + 20 == total_len == len(datagram)
        ):
            # What most datagrams are: whole, IPv4, no options. Everything needed stands at
            # fixed offsets, and decoding would cost more than the rest together.
            flow = self._udp.side(key).flow
            flow.packets += 1
            if flow.dropped:
                return DROPPED
            payload = datagram[28:]
            if not payload:
                return ACCEPTED
            flow.payload_packets += 1
            bank = self.ruleset.udp
            hits = bank.database.scan(payload)
            if not hits and not bank.needs_every_packet:
                turns = flow.turns
                if turns is NOT_BEGUN and not self.ruleset.udp_flow.may_begin(payload):
                    flow.turns = turns = None
                if turns is None:  # no signature of flows waits for it
                    return ACCEPTED
            packet = Packet(UDP, key, payload, len(payload), 0, 0)
            return self._weigh(hits, packet, flow, now_s)
        if (
            protocol == TCP
            and first == 0x45
            and not fragment & 0x3FFF
            and 40 <= total_len == len(datagram)
        ):
            sequence, acknowledgement, offset, flags = _COMMON_TCP(datagram)
            body = 20 + (offset >> 4) * 4
            if 40 <= body <= total_len:
                if not flags & SYN:
                    side = self._tcp.side(key)
                    flow = side.flow
                    if body == total_len or (
                        (starts := side.starts) is not None
                        and not starts.tells(sequence, datagram, body)
                        and (self.ruleset.tcp_by_stream or self._is_past_turns(flow))
                    ):
                        # What most segments are: nothing is looked for in them any more.
                        flow.packets = packets = flow.packets + 1
                        flow.payload_packets += body < total_len
                        if packets < flow.due:
                            return ACCEPTED
                        return self._look(key, flow, acknowledgement)
                payload = datagram[body:]
                packet = Packet(TCP, key, payload, len(payload), sequence, flags, acknowledgement)
                return self._segment(packet, now_s)
        decoded = decode(datagram)
        return ACCEPTED if decoded is None else self.judge(decoded, now_s)

    def _is_past_turns(self, flow: Flow) -> bool:
        return flow.turns is None and not self.ruleset.tcp_packet.rules

    def _look(self, key: bytes, flow: Flow, acknowledgement: int) -> Judgement:
        """The judgement of a packet that tells nothing.

        `SETTLED` if it is due and nothing is looked for in what its receiver will send. All that
        is of interest of that must have arrived. Otherwise the peer could take other bytes for
        the stream's start than those that have been inspected.
        """
        if flow.dropped:
            return DROPPED
        if flow.packets < flow.due:
            return ACCEPTED
        if not flow.due:
            flow.due = flow.packets + self._settles_every
            return ACCEPTED
        # Soon again: what settles a download are its few acknowledgements.
        flow.due = flow.packets + _LOOK_AGAIN
        if not self.ruleset.tcp_by_stream and not self._is_past_turns(flow):
            return ACCEPTED
        side = self._tcp.known(reverse(key))
        if side is None or side.starts is None or not side.starts.settled_by(acknowledgement):
            return ACCEPTED
        flow.due = flow.packets + self._settles_every
        return SETTLED

    def judge(self, packet: Packet, now_s: float) -> Judgement:
        """Judge what `decode` has made of a datagram; the answer is that of `inspect`."""
        if packet.protocol == TCP:
            return self._segment(packet, now_s)
        return self._datagram(packet, now_s)

    def _datagram(self, packet: Packet, now_s: float) -> Judgement:
        flow = self._udp.side(packet.key).flow
        flow.packets += 1
        if flow.dropped:
            return DROPPED
        if not packet.payload:
            return ACCEPTED
        flow.payload_packets += 1
        hits = self.ruleset.udp.database.scan(packet.payload)
        return self._weigh(hits, packet, flow, now_s)

    def _weigh(self, hits: list[int], packet: Packet, flow: Flow, now_s: float) -> Judgement:
        """Judge a datagram by what its scan matched, and by the flow's turns."""
        ruleset = self.ruleset
        judgement = ACCEPTED
        payload, header = packet.payload, 0
        if hits or ruleset.udp.needs_every_packet:
            judgement = self._judge.decide(ruleset.udp, hits, payload, packet, flow, now_s)
            header = udp_header_len(payload)
            if header and judgement.verdict is Verdict.ACCEPT:
                # What a SOCKS proxy passes on is inspected as if it had come by itself.
                payload = payload[header:]
                inner = self._scan(ruleset.udp, payload, packet, flow, now_s)
                judgement = both(judgement, inner)
        if ruleset.udp_flow.rules and judgement.verdict is Verdict.ACCEPT:
            turns = _turns(flow, ruleset.udp_flow, payload)
            if turns is None:
                return judgement
            size = packet.payload_len - header
            turns.add(packet.key == flow.opener, size, payload[:HEAD_B])
            judgement = self._follow(ruleset.udp_flow, judgement, packet, flow, turns, now_s)
        return judgement

    @property
    def flows(self) -> int:
        """Flow directions remembered, TCP and UDP."""
        return len(self._udp) + len(self._tcp)

    def _segment(self, packet: Packet, now_s: float) -> Judgement:
        sequence = packet.sequence
        if packet.flags & SYN:
            # The SYN takes up one number; data on it (TCP Fast Open) begins after that.
            sequence += 1
            side = synchronise(self._tcp, packet)
        else:
            side = self._tcp.side(packet.key)
        flow = side.flow
        flow.packets += 1
        payload = packet.payload
        if flow.dropped:
            # What may become another connection must be able to begin, but without data.
            asks = packet.flags & (SYN | ACK) == SYN and not packet.payload_len
            return ACCEPTED if asks else DROPPED
        if not payload:
            return self._look(packet.key, flow, packet.acknowledgement)
        flow.payload_packets += 1
        starts = side.starts
        if starts is None:
            # This side's SYN was not seen; was the connection there before we looked?
            middle = MIDDLE_SEGMENTS if flow.opener is None else 0
            starts = side.starts = Starts(sequence, middle=middle)
            if flow.turns is not NOT_BEGUN:  # nor do we know any longer what this side has sent
                flow.turns = None
        ruleset = self.ruleset
        judgement = ACCEPTED
        new = starts.tells(sequence, payload, 0)
        if new:
            if isinstance(starts, Settled):
                starts = side.starts = starts.woken()
            judgement = self._start(starts, packet, sequence, flow, now_s)
        if not ruleset.tcp_by_stream:
            if ruleset.tcp_packet.rules and judgement.verdict is Verdict.ACCEPT:
                later = self._scan(ruleset.tcp_packet, payload, packet, flow, now_s)
                judgement = both(judgement, later)
            if (
                ruleset.tcp_flow.rules
                and flow.turns is not None
                and judgement.verdict is Verdict.ACCEPT
                and not isinstance(starts, Settled)
            ):
                judgement = self._follow_segment(starts, judgement, packet, sequence, flow, now_s)
        if not new and judgement is ACCEPTED:
            return self._look(packet.key, flow, packet.acknowledgement)
        if new and not isinstance(starts, Settled):
            if starts.complete or starts.watched:
                starts.settle()
            held_b = starts.held_b
            if held_b or starts.noted_b:
                self._tcp.hold(starts, held_b)
            if starts.settled and flow.turns is None:
                side.starts = starts.at_rest()
        return judgement

    def _start(
        self, starts: Starts, packet: Packet, sequence: int, flow: Flow, now_s: float
    ) -> Judgement:
        """Judge a segment by the starts of its stream that it brings on, or by itself."""
        ruleset = self.ruleset
        judgement = ACCEPTED
        for start in starts.take(sequence, packet.payload, packet.payload_len):
            prefix = start.prefix
            found = self._scan(ruleset.tcp_stream, prefix, packet, flow, now_s)
            judgement = both(judgement, found)
            if prefix[0] in MAY_BE_PREFACES and judgement.verdict is Verdict.ACCEPT:
                found = self._behind_proxy(start, packet, flow, now_s)
                judgement = both(judgement, found)
            if judgement.verdict is Verdict.DROP:
                return judgement
        if starts.middle and ruleset.tcp_middle.rules:
            found = self._scan(ruleset.tcp_middle, packet.payload, packet, flow, now_s)
            judgement = both(judgement, found)
        return judgement

    def _behind_proxy(
        self, start: StreamStart, packet: Packet, flow: Flow, now_s: float
    ) -> Judgement:
        """Judge what comes after a start's words to a proxy, or from one."""
        if flow.proxied is None or flow.proxied == packet.key:
            if flow.opener not in (None, packet.key):
                return ACCEPTED  # nobody asks a proxy that has called
            start.preface = preface_to_proxy(start.prefix)
            if start.preface:
                flow.proxied = packet.key
        else:
            start.preface = preface_of_proxy(start.prefix)
        rest = start.prefix[start.preface :]
        if not start.preface or not rest:
            return ACCEPTED
        return self._scan(self.ruleset.tcp_stream, rest, packet, flow, now_s)

    def _follow_segment(
        self,
        stream: StreamStart,
        judgement: Judgement,
        packet: Packet,
        sequence: int,
        flow: Flow,
        now_s: float,
    ) -> Judgement:
        """Judge a segment by the flow's turns, if it brings them on."""
        if flow.opener is None:  # the connection began before we looked: who knows which turn
            flow.turns = None
        # What a proxy is asked for is nothing that the two sides say to each other.
        skipped = stream.preface
        turns = _turns(flow, self.ruleset.tcp_flow, stream.prefix[skipped:])
        if turns is None:
            return judgement
        from_client = packet.key == flow.opener
        known = turns.sent(from_client)
        received = stream.received(sequence, len(packet.payload), packet.payload_len) - skipped
        if received <= known:
            return judgement
        at = skipped + known
        turns.add(from_client, received - known, stream.prefix[at : at + HEAD_B])
        return self._follow(self.ruleset.tcp_flow, judgement, packet, flow, turns, now_s)

    def _follow(
        self,
        bank: Bank,
        judgement: Judgement,
        packet: Packet,
        flow: Flow,
        turns: FollowedTurns,
        now_s: float,
    ) -> Judgement:
        """Judge a flow whose turns have grown, after what was found in the packet itself."""
        found = self._judge.follow(bank, turns, packet, flow, now_s)
        if not turns.rules or turns.over or flow.dropped:
            flow.turns = None
        return both(judgement, found)

    def _scan(
        self, bank: Bank, payload: bytes, packet: Packet, flow: Flow, now_s: float
    ) -> Judgement:
        hits = bank.database.scan(payload)
        if hits or bank.needs_every_packet:
            return self._judge.decide(bank, hits, payload, packet, flow, now_s)
        return ACCEPTED


def _turns(flow: Flow, bank: Bank, payload: bytes) -> FollowedTurns | None:
    """A flow's turns, begun with its first payload.

    None where that has passed unseen, or where no rule waits for one that begins so.
    """
    if flow.turns is NOT_BEGUN:
        begins = flow.payload_packets == 1 and (not payload or bank.may_begin(payload))
        flow.turns = FollowedTurns() if begins else None
    return flow.turns
