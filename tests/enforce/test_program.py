"""Signatures in the XDP program give the verdict that the Inspector gives: run by the kernel."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from engine.compiler.driver import in_driver, place, placements
from engine.compiler.ruleset import RuleSet
from engine.fields import Context
from engine.inspect.inspector import Inspector
from engine.inspect.judgement import Verdict
from engine.language.diagnostics import has_errors
from engine.language.document import Signature
from engine.paths import shipped_signatures
from engine.signatures import load
from tests.captures import udp
from tests.compiler import conditions, kleene, written
from tests.enforce.chat_packets import (
    ACK,
    PUSH,
    SYN,
    B,
    segment,
    sources,
)
from tests.enforce.running import Driver, driver
from tools.bench.kernel_run import MIN_PACKET_B

pytestmark = pytest.mark.lab


# --- conditions


def _guarded(when: str, named: str, number: int) -> Signature:
    """A signature of one destination port, so that many are told apart in one program."""
    return written.signature(f"dst.port == {number} and ({when})", named, name=f"a.s{number}")


signatures_to_try = st.lists(
    st.tuples(conditions.conditions, conditions.patterns).filter(
        lambda both: not has_errors(written.checked(*both))
    ),
    min_size=60,
    max_size=60,
)


@settings(
    max_examples=3,
    # Each takes seconds: no smaller ones are looked for when one fails.
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(signatures_to_try, st.lists(conditions.payloads, min_size=12, max_size=12))
def test_c_means_what_the_language_says(
    tried: list[tuple[str, str]], payloads: list[bytes]
) -> None:
    signatures = [_guarded(when, named, number) for number, (when, named) in enumerate(tried)]
    placed = {s.id: place(s) for s in signatures}
    taken = [p.signature for p in placed.values() if p.signature is not None]
    source = sources()
    with driver(taken) as loaded:
        for number, (when, named) in enumerate(tried):
            placement = placed[f"a.s{number}"]
            if placement.signature is None:
                continue
            for payload in filter(None, payloads):
                context = Context(payload, bytes([10, 0, 0, 1]), bytes(4), 2, 65)
                meant = kleene.truth(written.condition(when), written.patterns(named), context)
                packet = udp(next(source), 2, B, number, payload)
                if loaded.drops(packet):
                    assert meant is True, (when, named, payload, placement.signature.condition)
                elif placement.driver == "whole":
                    assert meant is not True, (when, named, payload, placement.signature.condition)


def test_tests_of_the_shipped_signatures_end_the_same() -> None:
    ruleset = load(shipped_signatures())
    taken = in_driver(ruleset.signatures)
    ids = {signature.id for signature in taken}
    names = ("dht.query", "tracker.udp.connect", "peer.handshake")
    assert {f"bittorrent.{name}" for name in names} <= ids
    whole = {p.id for p in placements(ruleset.signatures) if p.driver == "whole"}
    source = sources()
    with driver(taken) as loaded:
        for signature in ruleset.signatures:
            for test in signature.tests:
                if not test.payload or signature.inspect == "flow":
                    continue
                host = next(source)
                dropped = _first_dropped(loaded, signature.transport, host, test.payload)
                judged = _inspected(ruleset, signature.transport, host, test.payload)
                assert not dropped or judged, (signature.id, test.payload)
                if signature.id in whole and test.must_match:
                    assert dropped, (signature.id, test.payload)


def test_random_packets_are_dropped_by_the_driver_only_where_the_inspector_does() -> None:
    """Those that signatures look for, with bits flipped, bytes cut off and headers that lie."""
    ruleset = load(shipped_signatures())
    chance = random.Random(5)
    source = sources()
    taken = in_driver(ruleset.signatures)
    payloads = {
        signature.id: [(signature.transport, test.payload) for test in signature.tests]
        for signature in ruleset.signatures
        if signature.inspect != "flow"
    }
    all_of_them = list(itertools.chain.from_iterable(payloads.values()))
    for_driver = list(itertools.chain.from_iterable(payloads[s.id] for s in taken))
    dropped = 0
    with driver(taken) as loaded:
        for _ in range(4000):
            transport, payload = chance.choice(chance.choice([all_of_them, for_driver]))
            host = next(source)
            packets = _connection(transport, host, _mangled(payload, chance))
            packets[-1] = _mangled(packets[-1], chance, flips=1).ljust(MIN_PACKET_B, b"\0")
            inspector = Inspector(ruleset)
            for packet in packets:
                driven = loaded.drops(packet)
                judged = inspector.inspect(packet, 0.0).verdict is Verdict.DROP
                assert judged or not driven, packet.hex()
                if driven:
                    dropped += 1
                    loaded.forget_bans()
    assert dropped > 100


def _mangled(data: bytes, chance: random.Random, flips: int = 2) -> bytes:
    mangled = bytearray(data or b"\0")
    for _ in range(chance.choice([0, 0, flips])):
        mangled[chance.randrange(len(mangled))] ^= 1 << chance.randrange(8)
    cut = chance.choice([0, 0, 0, chance.randrange(len(mangled))])
    return bytes(mangled[: len(mangled) - cut])


def _connection(transport: str, host: str, payload: bytes) -> list[bytes]:
    """A datagram, or a SYN and the stream's first segment."""
    if transport == "udp":
        return [udp(host, 1000, B, 2000, payload)]
    return [segment(host, B, b"", 7, SYN), segment(host, B, payload, 8, ACK | PUSH)]


def _first_dropped(loaded: Driver, transport: str, host: str, payload: bytes) -> bool:
    return [loaded.drops(packet) for packet in _connection(transport, host, payload)][-1]


def _inspected(ruleset: RuleSet, transport: str, host: str, payload: bytes) -> bool:
    inspector = Inspector(ruleset)
    verdicts = [inspector.inspect(p, 0.0).verdict for p in _connection(transport, host, payload)]
    return verdicts[-1] is Verdict.DROP


# --- packets
