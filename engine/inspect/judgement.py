"""Verdicts, and how rules that match come to one: thresholds, tags, detections."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Literal

from engine.compiler.ruleset import Bank, Rule
from engine.fields import Context
from engine.fields.turns import NO_TURNS
from engine.inspect.flow import Flow
from engine.inspect.followed import FollowedTurns
from engine.inspect.packet import Endpoint, Packet
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
    for what was found `in_driver`, which knows no flows.
    `tunnelled`: the packet came inside another one, whose addresses are not these.
    `ban` is what the signature says about bans. `two_way` tells whether both sides have sent
    something; `repeated`, that this was told before, when they had not (see `OneWayFlows`).
    """

    signature: str
    rev: int
    action: Action
    transport: Literal["tcp", "udp"]
    source: Endpoint
    destination: Endpoint
    flow_packet: int
    payload_packet: int
    tunnelled: bool = False
    in_driver: bool = False
    ban: Ban | None = None
    two_way: bool = True
    repeated: bool = False

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


# What nearly every packet gets; the same object each time, so that `is` tells.
ACCEPTED = Judgement(Verdict.ACCEPT)
DROPPED = Judgement(Verdict.DROP)
# An accepted packet whose receiver has nothing more to say in this flow that is looked for. That
# is told now and then, not with each packet.
SETTLED = Judgement(Verdict.ACCEPT)


class Judge:
    """Asks the rules behind what matched, and remembers what thresholds and tags need."""

    def __init__(self) -> None:
        self.tags = HostTags()
        self._thresholds = ThresholdCounter()

    def decide(
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

    def follow(
        self, bank: Bank, turns: FollowedTurns, packet: Packet, flow: Flow, now_s: float
    ) -> Judgement:
        """The turns of a flow have grown: ask the rules that wait for them."""
        context = self._context(b"", packet, flow, now_s)
        rules, turns.rules = bank.follow(turns.asked_by(bank), context)
        return self._detect(rules, packet, flow, now_s) if rules else ACCEPTED

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
                        packet.tunnelled,
                        ban=rule.then.ban,
                        two_way=flow.two_way,
                    )
                )
            # Also what was told before: as long as it goes on, its tag lasts.
            self._tag(rule, packet, now_s)
        if not detections:
            return ACCEPTED
        flow.reported |= {detection.signature for detection in detections}
        if any(detection.action in STOPPING for detection in detections):
            flow.dropped = True
            flow.due = 0
            return Judgement(Verdict.DROP, tuple(detections))
        return Judgement(Verdict.ACCEPT, tuple(detections))

    def _tag(self, rule: Rule, packet: Packet, now_s: float) -> None:
        tag = rule.then.tag
        if tag is None:
            return
        for host in tagged_hosts(tag, packet):
            self.tags.set(host, tag.name, now_s + tag.lasts_s)

    def _takes_effect(self, rule: Rule, packet: Packet, now_s: float) -> bool:
        threshold = rule.then.threshold
        if threshold is None:
            return True
        host = packet.source if threshold.per == "src" else packet.destination
        return self._thresholds.reached(rule.id, host.address, threshold, now_s)


def both(first: Judgement, second: Judgement) -> Judgement:
    """Two judgements on one packet; the first accepts it."""
    if not second.detections:
        return first
    return Judgement(second.verdict, first.detections + second.detections)


def tagged_hosts(tag: Tag, packet: Packet) -> list[bytes]:
    """Who gets the tag that a match in a packet sets, in network byte order."""
    ends = {"src": [packet.source], "dst": [packet.destination]}
    return [end.address for end in ends.get(tag.of, [packet.source, packet.destination])]
