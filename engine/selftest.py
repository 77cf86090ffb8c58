"""The signatures' own tests, run on what the daemon runs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

from engine.compiler.ruleset import RuleSet
from engine.fields import Context
from engine.inspect.inspector import Inspector
from engine.inspect.packet import ACK, SYN, TCP, UDP, Packet, reverse
from engine.language.diagnostics import Diagnostic
from engine.language.document import Signature, SignatureTest
from engine.language.form import Then

# From one host of a documentation network (RFC 5737) to another.
_KEY = bytes([192, 0, 2, 1, 192, 0, 2, 2]) + (49152).to_bytes(2, "big") + (1).to_bytes(2, "big")
_CLIENT, _SERVER = _KEY[:4], _KEY[4:8]


def self_test(ruleset: RuleSet) -> list[Diagnostic]:
    """Run every signature's own tests, those of the disabled ones too.

    Gives a diagnostic for each that fails.

    Tests ask whether a condition is true: thresholds are left aside, and so are the other
    signatures.
    """
    failures = []
    for signature in (*ruleset.signatures, *ruleset.disabled):
        for test in signature.tests:
            on_a_flow = test.turns or signature.inspect == "flow"
            matches = _flow_matches if on_a_flow else _payload_matches
            if matches(ruleset, signature, test) != test.must_match:
                wanted = "must match, and does not" if test.must_match else "must not match"
                what = "flow" if test.turns else "payload"
                message = f"`{signature.id}`: this {what} {wanted}"
                failures.append(Diagnostic("S021", message, signature.source, test.span))
    return failures


def _payload_matches(ruleset: RuleSet, signature: Signature, test: SignatureTest) -> bool:
    def tagged(host: bytes, name: str) -> bool:
        return name in (test.source_tags if host == _CLIENT else test.destination_tags)

    context = Context(test.payload, _CLIENT, _SERVER, from_client=True, tagged=tagged)
    bank = ruleset.bank_of(signature)
    rules = bank.decide(bank.database.scan(test.payload), context)
    return signature.id in {rule.id for rule in rules}


def _flow_matches(ruleset: RuleSet, signature: Signature, test: SignatureTest) -> bool:
    """Whether any packet of a flow is detected by an inspector that knows this signature alone."""
    alone = replace(signature, enabled=True, then=Then(action="log"))
    inspector = Inspector(RuleSet([alone], lists=ruleset.lists))
    for host, names in ((_CLIENT, test.source_tags), (_SERVER, test.destination_tags)):
        for name in names:
            inspector.tags.set(host, name, expires_s=1)
    packets = _segments if signature.transport == "tcp" else _datagrams
    return any(
        inspector.judge(packet, now_s=0).detections
        for packet in packets(test.turns or ((test.payload,),))
    )


def _sent(turns: tuple[tuple[bytes, ...], ...]) -> Iterator[tuple[bytes, bytes]]:
    """The packets of all turns, each with the key of its direction."""
    for key, turn in zip(itertools.cycle((_KEY, reverse(_KEY))), turns, strict=False):
        for payload in turn:
            yield key, payload


def _datagrams(turns: tuple[tuple[bytes, ...], ...]) -> Iterator[Packet]:
    for key, payload in _sent(turns):
        yield Packet(UDP, key, payload, len(payload), 0, 0)


def _segments(turns: tuple[tuple[bytes, ...], ...]) -> Iterator[Packet]:
    """A TCP connection from its SYN on (RFC 9293)."""
    yield Packet(TCP, _KEY, b"", 0, 0, SYN)
    yield Packet(TCP, reverse(_KEY), b"", 0, 0, SYN | ACK)
    sequences = {_KEY: 1, reverse(_KEY): 1}
    for key, payload in _sent(turns):
        yield Packet(TCP, key, payload, len(payload), sequences[key], ACK)
        sequences[key] += len(payload)
