"""Packets in, verdicts out: the one path that the queue and the capture reader share."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Literal

from engine.compiler.ruleset import Bank, Rule, RuleSet
from engine.fields import Context
from engine.fields.turns import HEAD_B, NO_TURNS
from engine.inspect.flow import DEFAULT_MAX_FLOWS, Flow, FlowTable, Side
from engine.inspect.followed import NOT_BEGUN, FollowedTurns
from engine.inspect.packet import ACK, SYN, TCP, UDP, Endpoint, Packet, decode, reverse
from engine.inspect.stream import StreamStart
from engine.inspect.tags import HostTags
from engine.inspect.threshold import ThresholdCounter
from engine.language.form import STOPPING, Action, Ban, Tag


class Verdict(Enum):
    """What becomes of a packet."""

    ACCEPT = "accept"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class Detection:
    """A signature found true for a packet, and for which.

    `flow_packet` and `payload_packet` count from 1 within the flow, both directions; they are 0
    for what was found `in_driver`, which knows no flows. `ban` is what the signature says about
    bans. `two_way` tells whether both sides have sent something; `repeated`, that this was told
    before, when they had not (see `OneWayFlows`).
    """

    signature: str
    rev: int
    action: Action
    transport: Literal["tcp", "udp"]
    source: Endpoint
    destination: Endpoint
    flow_packet: int
    payload_packet: int
    ban: Ban | None = None
    two_way: bool = True
    repeated: bool = False
    in_driver: bool = False

    @property
    def key(self) -> bytes:
        """That of the packet; see `Packet`."""
        source, destination = self.source, self.destination
        ports = source.port.to_bytes(2, "big") + destination.port.to_bytes(2, "big")
        return source.address + destination.address + ports


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict on one packet, and what was detected in it."""

    verdict: Verdict
    detections: tuple[Detection, ...] = ()


# Of an IPv4 header without options and the transport header behind it: version and length,
# total length, fragment, protocol, addresses and ports, UDP's length and checksum.
_COMMON = struct.Struct(">BxHxxHxBxx12sHxx").unpack_from

# What nearly every packet gets; the same object each time, so that `is` tells.
ACCEPTED = Judgement(Verdict.ACCEPT)
_DROP = Judgement(Verdict.DROP)


class Inspector:
    """Judges packets with a RuleSet and what it remembers of their flows.

    `ruleset` may be replaced between two packets; flows and tags live on.
    """

    def __init__(self, ruleset: RuleSet, *, max_flows: int = DEFAULT_MAX_FLOWS) -> None:
        self.ruleset = ruleset
        self._udp = FlowTable(max_flows)
        self._tcp = FlowTable(max_flows, first_seen_opens=False)
        self.tags = HostTags()
        self._thresholds = ThresholdCounter()

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
                return _DROP
            payload = datagram[28:]
            if not payload:
                return ACCEPTED
            flow.payload_packets += 1
            bank = self.ruleset.udp
            hits = bank.database.scan(payload)
            if not hits and not bank.needs_every_packet:
                turns = flow.turns
                if turns is NOT_BEGUN and not self.ruleset.udp_flow.may_begin(payload[0]):
                    flow.turns = turns = None
                if turns is None:  # no signature of flows waits for it
                    return ACCEPTED
            packet = Packet(UDP, key, payload, len(payload), 0, 0)
            return self._weigh(hits, packet, flow, now_s)
        decoded = decode(datagram)
        return ACCEPTED if decoded is None else self.judge(decoded, now_s)

    def judge(self, packet: Packet, now_s: float) -> Judgement:
        """Judge what `decode` has made of a datagram; the answer is that of `inspect`."""
        if packet.protocol == TCP:
            return self._segment(packet, now_s)
        return self._datagram(packet, now_s)

    def _datagram(self, packet: Packet, now_s: float) -> Judgement:
        flow = self._udp.side(packet.key).flow
        flow.packets += 1
        if flow.dropped:
            return _DROP
        if not packet.payload:
            return ACCEPTED
        flow.payload_packets += 1
        hits = self.ruleset.udp.database.scan(packet.payload)
        return self._weigh(hits, packet, flow, now_s)

    def _weigh(self, hits: list[int], packet: Packet, flow: Flow, now_s: float) -> Judgement:
        """Judge a datagram by what its scan matched, and by the flow's turns."""
        ruleset = self.ruleset
        judgement = ACCEPTED
        if hits or ruleset.udp.needs_every_packet:
            judgement = self._decide(ruleset.udp, hits, packet.payload, packet, flow, now_s)
        if ruleset.udp_flow.rules and judgement.verdict is Verdict.ACCEPT:
            turns = _turns(flow, ruleset.udp_flow, packet.payload)
            if turns is None:
                return judgement
            turns.add(packet.key == flow.opener, packet.payload_len, packet.payload[:HEAD_B])
            judgement = self._follow(ruleset.udp_flow, judgement, packet, flow, turns, now_s)
        return judgement

    @property
    def flows(self) -> int:
        """Flow directions remembered, TCP and UDP."""
        return len(self._udp) + len(self._tcp)

    def _segment(self, packet: Packet, now_s: float) -> Judgement:
        side = self._tcp.side(packet.key)
        sequence = packet.sequence
        if packet.flags & SYN:
            # The SYN takes up one number; data on it (TCP Fast Open) begins after that.
            sequence += 1
            side = self._synchronise(packet, side)
        flow = side.flow
        flow.packets += 1
        if flow.dropped:
            return _DROP
        payload = packet.payload
        if not payload:
            return ACCEPTED
        flow.payload_packets += 1
        stream = side.stream
        if stream is None:  # the connection began before we looked
            stream = side.stream = StreamStart(sequence)
            if flow.turns is not NOT_BEGUN:  # nor do we know any longer what this side has sent
                flow.turns = None
        ruleset = self.ruleset
        judgement = ACCEPTED
        grew = not stream.complete and stream.add(sequence, payload)
        if grew:
            judgement = self._scan(ruleset.tcp_stream, stream.prefix, packet, flow, now_s)
        if not ruleset.tcp_by_stream:
            if ruleset.tcp_packet.rules and judgement.verdict is Verdict.ACCEPT:
                later = self._scan(ruleset.tcp_packet, payload, packet, flow, now_s)
                judgement = _both(judgement, later)
            if (
                ruleset.tcp_flow.rules
                and flow.turns is not None
                and judgement.verdict is Verdict.ACCEPT
            ):
                judgement = self._follow_segment(stream, judgement, packet, sequence, flow, now_s)
        if grew and stream.complete:
            stream.release()
        return judgement

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
        turns = _turns(flow, self.ruleset.tcp_flow, stream.prefix)
        if turns is None:
            return judgement
        from_client = packet.key == flow.opener
        known = turns.sent(from_client)
        received = stream.received(sequence, len(packet.payload), packet.payload_len)
        if received <= known:
            return judgement
        turns.add(from_client, received - known, stream.prefix[known : known + HEAD_B])
        return self._follow(self.ruleset.tcp_flow, judgement, packet, flow, turns, now_s)

    def _synchronise(self, packet: Packet, side: Side) -> Side:
        """A SYN says where its side's stream begins; without ACK it begins a connection."""
        if packet.flags & ACK:
            if side.flow.opener is None:
                side.flow.opener = reverse(packet.key)
        elif side.flow.payload_packets or side.flow.dropped:
            side = self._tcp.start(packet.key)
        else:
            side.flow.opener = packet.key
        # Inside a connection a SYN changes nothing for its receiver (RFC 5961, section 4).
        if side.stream is None or not side.stream.begun:
            side.stream = StreamStart(packet.sequence + 1)
        return side

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
        context = self._context(b"", packet, flow, now_s)
        rules, turns.rules = bank.follow(turns.asked_by(bank), context)
        found = self._detect(rules, packet, flow, now_s) if rules else ACCEPTED
        if not turns.rules or turns.over or flow.dropped:
            flow.turns = None
        return _both(judgement, found)

    def _scan(
        self, bank: Bank, payload: bytes, packet: Packet, flow: Flow, now_s: float
    ) -> Judgement:
        hits = bank.database.scan(payload)
        if hits or bank.needs_every_packet:
            return self._decide(bank, hits, payload, packet, flow, now_s)
        return ACCEPTED

    def _decide(
        self,
        bank: Bank,
        hits: list[int],
        payload: bytes,
        packet: Packet,
        flow: Flow,
        now_s: float,
    ) -> Judgement:
        """Something matched: ask the rules behind it. Rare, so clarity comes first here."""
        rules = bank.decide(hits, self._context(payload, packet, flow, now_s))
        return self._detect(rules, packet, flow, now_s)

    def _context(self, payload: bytes, packet: Packet, flow: Flow, now_s: float) -> Context:
        key = packet.key
        width = len(key) // 2 - 2
        return Context(
            payload,
            key[:width],
            key[width:-4],
            key[-4] << 8 | key[-3],
            key[-2] << 8 | key[-1],
            flow.packets,
            flow.payload_packets,
            None if flow.opener is None else key == flow.opener,
            flow.turns or NO_TURNS,
            partial(self.tags.has, now_s=now_s),
        )

    def _detect(self, rules: Iterable[Rule], packet: Packet, flow: Flow, now_s: float) -> Judgement:
        """What follows from the rules that are true."""
        detections = []
        for rule in rules:
            if rule.id not in flow.reported:
                if not self._takes_effect(rule, packet, now_s):
                    continue
                detections.append(
                    Detection(
                        rule.id,
                        rule.rev,
                        rule.then.action,
                        packet.transport,
                        packet.source,
                        packet.destination,
                        flow.packets,
                        flow.payload_packets,
                        rule.then.ban,
                        flow.two_way,
                    )
                )
            # Also what was told before: as long as it goes on, its tag lasts.
            if rule.then.tag is not None:
                self.tag(rule.then.tag, packet, now_s)
        if not detections:
            return ACCEPTED
        flow.reported |= {detection.signature for detection in detections}
        if any(detection.action in STOPPING for detection in detections):
            flow.dropped = True
            return Judgement(Verdict.DROP, tuple(detections))
        return Judgement(Verdict.ACCEPT, tuple(detections))

    def tag(self, tag: Tag, packet: Packet, now_s: float) -> None:
        """Set the tag that a match in a packet sets; also one that was found elsewhere."""
        if tag is None:
            return
        if tag.of != "dst":
            self.tags.set(packet.source.address, tag.name, now_s + tag.lasts_s)
        if tag.of != "src":
            self.tags.set(packet.destination.address, tag.name, now_s + tag.lasts_s)

    def _takes_effect(self, rule: Rule, packet: Packet, now_s: float) -> bool:
        threshold = rule.then.threshold
        if threshold is None:
            return True
        host = packet.source if threshold.per == "src" else packet.destination
        return self._thresholds.reached(rule.id, host.address, threshold, now_s)


def _turns(flow: Flow, bank: Bank, payload: bytes) -> FollowedTurns | None:
    """A flow's turns, begun with its first payload.

    None where that has passed unseen, or where no rule waits for one that begins so.
    """
    if flow.turns is NOT_BEGUN:
        begins = flow.payload_packets == 1 and (not payload or bank.may_begin(payload[0]))
        flow.turns = FollowedTurns() if begins else None
    return flow.turns


def _both(first: Judgement, second: Judgement) -> Judgement:
    """Two judgements on one packet; the first accepts it."""
    if not second.detections:
        return first
    return Judgement(second.verdict, first.detections + second.detections)
