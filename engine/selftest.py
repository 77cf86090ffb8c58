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
from engine.language.ends import End
from engine.language.form import Then


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
    source, destination = test.ends
    tags = _tags(test)

    def tagged(host: bytes, name: str) -> bool:
        return (host, name) in tags

    # Who has opened a connection is unknown where its beginning was not seen.
    from_client = None if signature.inspect == "middle" else True
    context = Context(
        test.payload,
        source.address.packed,
        destination.address.packed,
        source.port,
        destination.port,
        from_client=from_client,
        tagged=tagged,
    )
    bank = ruleset.bank_of(signature)
    rules = bank.decide(bank.database.scan(test.payload), context)
    return signature.id in {rule.id for rule in rules}


def _flow_matches(ruleset: RuleSet, signature: Signature, test: SignatureTest) -> bool:
    """Whether any packet of a flow is detected by an inspector that knows this signature alone."""
    alone = replace(signature, enabled=True, then=Then(action="log"))
    inspector = Inspector(RuleSet([alone], lists=ruleset.lists))
    for host, name in _tags(test):
        inspector.tags.set(host, name, expires_s=1)
    packets = _datagrams if signature.transport == "udp" else _segments
    packets = _later_segments if signature.inspect == "middle" else packets
    return any(
        inspector.judge(packet, now_s=0).detections
        for packet in packets(_key(*test.ends), test.turns or ((test.payload,),))
    )


def _tags(test: SignatureTest) -> frozenset[tuple[bytes, str]]:
    """The tags that hosts bear to begin with."""
    each = zip(test.ends, (test.source_tags, test.destination_tags), strict=True)
    return frozenset((end.address.packed, name) for end, names in each for name in names)


def _key(source: End, destination: End) -> bytes:
    """The key of a packet from one end to the other."""
    ports = source.port.to_bytes(2, "big") + destination.port.to_bytes(2, "big")
    return source.address.packed + destination.address.packed + ports


def _sent(client: bytes, turns: tuple[tuple[bytes, ...], ...]) -> Iterator[tuple[bytes, bytes]]:
    """The packets of all turns, each with the key of its direction."""
    for key, turn in zip(itertools.cycle((client, reverse(client))), turns, strict=False):
        for payload in turn:
            yield key, payload


def _datagrams(client: bytes, turns: tuple[tuple[bytes, ...], ...]) -> Iterator[Packet]:
    for key, payload in _sent(client, turns):
        yield Packet(UDP, key, payload, len(payload), 0, 0)


def _segments(client: bytes, turns: tuple[tuple[bytes, ...], ...]) -> Iterator[Packet]:
    """A TCP connection from its SYN on (RFC 9293)."""
    yield Packet(TCP, client, b"", 0, 0, SYN)
    yield Packet(TCP, reverse(client), b"", 0, 0, SYN | ACK, acknowledgement=1)
    yield from _later_segments(client, turns)


def _later_segments(client: bytes, turns: tuple[tuple[bytes, ...], ...]) -> Iterator[Packet]:
    """The segments after the handshake."""
    sequences = {client: 1, reverse(client): 1}
    for key, payload in _sent(client, turns):
        yield Packet(TCP, key, payload, len(payload), sequences[key], ACK)
        sequences[key] += len(payload)
