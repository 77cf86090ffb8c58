"""Signatures in the XDP program give the verdict that the Inspector gives: run by the kernel."""

from __future__ import annotations

import itertools
import random
import struct
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from engine.compiler.driver import DriverSignature, in_driver, place, placements
from engine.compiler.ruleset import RuleSet
from engine.enforce.program import build_program, fit
from engine.fields import Context
from engine.inspect.inspector import Inspector
from engine.inspect.judgement import Verdict
from engine.language.diagnostics import has_errors
from engine.language.document import Signature
from engine.language.form import Then
from engine.paths import shipped_signatures
from engine.signatures import load
from tests.captures import ethernet, ip, tcp, udp
from tests.compiler import conditions, kleene, written
from tests.enforce.running import ETHERNET, Driver, driver
from tools.bench.kernel_run import MIN_PACKET_B

pytestmark = pytest.mark.lab

A, B = "198.51.100.1", "203.0.113.1"
A6, B6 = "2001:db8::1", "2001:db8:1::1"
ENDS = pytest.mark.parametrize(("source", "destination"), [(A, B), (A6, B6)])

HELLO = b"CHAT hello"
SYN, ACK, PUSH = 0x02, 0x10, 0x08


def sources() -> Iterator[str]:
    """Addresses that no packet has come from yet."""
    return (str(ip_address(0x0A000000 + number)) for number in itertools.count(1))


def segment(
    source: str, destination: str, payload: bytes, sequence: int, flags: int, port: int = 1000
) -> bytes:
    packet = bytearray(tcp(source, port, destination, 2000, payload, sequence))
    packet[(20 if packet[0] >> 4 == 4 else 40) + 13] = flags
    return bytes(packet)


def chat(transport: str = "udp", inspect: str = "packet") -> Signature:
    return written.signature(
        "$hello at 0",
        '$hello = "CHAT hello"',
        name="example.chat",
        transport=transport,
        inspect=inspect,
    )


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


@pytest.fixture(scope="module")
def once() -> Iterator[Driver]:
    with driver(in_driver([chat()])) as loaded:
        yield loaded


@pytest.fixture
def datagrams(once: Driver) -> Driver:
    """A driver that looks for HELLO in datagrams, and bans nobody yet."""
    once.program.events()
    once.forget_bans()
    return once


@ENDS
def test_a_datagram_is_dropped_and_told(datagrams: Driver, source: str, destination: str) -> None:
    assert not datagrams.drops(udp(source, 1000, destination, 2000, b"CHAT bye"))
    packet = udp(source, 1000, destination, 2000, HELLO)
    assert datagrams.drops(packet)
    (event,) = datagrams.program.events()
    header = 20 if packet[0] >> 4 == 4 else 40
    addresses = packet[12:20] if header == 20 else packet[8:40]
    assert event.key == addresses + packet[header : header + 4]
    assert (event.signature, event.protocol) == (0, 17)
    assert [ban.address for ban in datagrams.program.bans()] == [ip_address(source).packed]


@ENDS
@pytest.mark.parametrize("tags", [b"", b"\x81\x00\0\1", b"\x88\xa8\0\1\x81\x00\0\2"])
def test_a_frame_is_dropped(datagrams: Driver, source: str, destination: str, tags: bytes) -> None:
    frame = ethernet(udp(source, 1000, destination, 2000, HELLO))
    frame = frame[:12] + tags + frame[12:]
    assert datagrams.drops(frame, ETHERNET)


def _options(packet: bytes) -> bytes:
    """An IPv4 packet with four bytes of options."""
    longer = bytearray(packet[:20] + b"\x01\x01\x01\x00" + packet[20:])
    longer[0] = 0x46
    struct.pack_into(">H", longer, 2, len(longer))
    return bytes(longer)


def _extension(packet: bytes) -> bytes:
    """An IPv6 packet with an empty destination options header."""
    longer = bytearray(packet[:40] + bytes([packet[6], 0, 1, 4, 0, 0, 0, 0]) + packet[40:])
    longer[6] = 60
    struct.pack_into(">H", longer, 4, len(longer) - 40)
    return bytes(longer)


def _field(packet: bytes, offset: int, value: int) -> bytes:
    changed = bytearray(packet)
    struct.pack_into(">H", changed, offset, value)
    return bytes(changed)


V4, V6 = udp(A, 1000, B, 2000, HELLO), udp(A6, 1000, B6, 2000, HELLO)


@pytest.mark.parametrize(
    "packet",
    [
        _options(V4),
        _extension(V6),
        _field(V4, 6, 0x2000),
        _field(V4, 6, 0x0001),
        _field(V4, 2, 0),
        _field(V4, 2, len(V4) + 1),
        _field(V4, 24, 8 + len(HELLO) - 1),
        _field(V4, 24, 8 + len(HELLO) + 1),
        _field(V6, 4, 0),
        _field(V6, 44, 8 + len(HELLO) - 1),
        V4[:-1],
        V6[:-1],
        ip(A, B, 4, V4),
        ip(A, B, 17, b"CHAT"),
        udp(A, 1000, B, 2000, b""),
        # Padding of the link is no payload.
        udp(A, 1000, B, 2000, HELLO[:-1]) + HELLO[-1:],
    ],
)
def test_what_the_driver_leaves_to_the_queue(datagrams: Driver, packet: bytes) -> None:
    assert not datagrams.drops(packet)
    assert datagrams.program.events() == []


def test_a_negated_pattern_is_true_of_a_short_payload_but_not_of_a_cut_one() -> None:
    signature = written.signature("not $hello at 0", '$hello = "CHAT hello"')
    with driver(in_driver([signature])) as loaded:
        assert loaded.drops(udp(A, 1000, B, 2000, b"CHAT"))
        assert loaded.drops(udp(A, 1000, B, 2000, b"CHAT jello"))
        assert not loaded.drops(udp("192.0.2.1", 1000, "192.0.2.2", 2000, HELLO))
        jello = udp("192.0.2.1", 1000, "192.0.2.2", 2000, b"CHAT jello")
        assert not loaded.drops(jello[:-1])


@ENDS
def test_the_start_of_a_stream_is_told_by_its_syn(source: str, destination: str) -> None:
    with driver(in_driver([chat("tcp", "stream")])) as loaded:
        first = segment(source, destination, HELLO, 0, PUSH | ACK)
        assert not loaded.drops(first), "no SYN was seen"
        assert not loaded.drops(segment(source, destination, b"", 0xFFFFFFFF, SYN))
        later = segment(source, destination, HELLO, 5, PUSH | ACK)
        assert not loaded.drops(later), "inside the stream"
        other_port = segment(source, destination, HELLO, 0, PUSH | ACK, port=1001)
        assert not loaded.drops(other_port)
        assert not loaded.drops(segment(destination, source, HELLO, 0, PUSH | ACK))
        assert not loaded.drops(segment(source, destination, b"", 0, ACK))
        assert not loaded.drops(segment(source, destination, HELLO[:4], 0, PUSH | ACK))
        assert loaded.program.events() == []
        assert loaded.drops(first)
        (event,) = loaded.program.events()
        assert event.protocol == 6


@ENDS
def test_the_answering_side_has_a_stream_too(source: str, destination: str) -> None:
    with driver(in_driver([chat("tcp", "stream")])) as loaded:
        assert not loaded.drops(segment(source, destination, b"", 99, SYN | ACK))
        assert loaded.drops(segment(source, destination, HELLO, 100, PUSH | ACK))


def test_a_signature_of_single_segments_needs_no_syn() -> None:
    with driver(in_driver([chat("tcp", "packet")])) as loaded:
        assert loaded.drops(segment(A, B, HELLO, 12345, PUSH | ACK))
        with_options = bytearray(segment(A6, B6, bytes(4) + HELLO, 12345, PUSH | ACK))
        with_options[40 + 12] = 0x60
        assert loaded.drops(bytes(with_options))


# --- bans


def test_a_match_bans_from_the_next_packet_on() -> None:
    with driver(in_driver([chat()]), ban_ns=3600 * 10**9) as loaded:
        assert loaded.drops(udp(A, 1000, B, 2000, HELLO))
        assert loaded.drops(udp(A, 1, B, 2, b"anything"))
        assert loaded.drops(udp(B, 1, A, 2, b"anything"))
        assert not loaded.drops(udp(B, 1000, "192.0.2.9", 2000, b"anything"))
        assert loaded.program.outcomes()[1:] == [1, 1, 1]
        (ban,) = loaded.program.bans()
        assert (ban.packets, ban.bytes) == (2, 2 * len(udp(A, 1, B, 2, b"anything")))
        assert len(loaded.program.events()) == 1
        assert loaded.program.delete(ip_address(A).packed)
        assert not loaded.drops(udp(A, 1, B, 2, b"anything"))


@ENDS
def test_who_is_allowed_is_left_to_the_queue(source: str, destination: str) -> None:
    with driver(in_driver([chat()]), ban_ns=3600 * 10**9) as loaded:
        network = ip_network(f"{source}/{30 if '.' in source else 120}", strict=False)
        loaded.program.allow(network)
        assert not loaded.drops(udp(source, 1000, destination, 2000, HELLO))
        assert list(loaded.program.bans()) == []
        assert loaded.program.events() == []
        assert loaded.drops(udp(destination, 1000, source, 2000, HELLO))
        loaded.program.delete(ip_address(destination).packed)
        loaded.program.disallow(network)
        assert loaded.drops(udp(source, 1000, destination, 2000, HELLO))


def test_who_is_let_alone_gets_everything() -> None:
    with driver(in_driver([chat()]), ban_ns=3600 * 10**9) as loaded:
        loaded.program.allow(ip_network(B))
        assert loaded.drops(udp(A, 1000, B, 2000, HELLO))
        loaded.program.allow(ip_network(B), let_alone=True)
        assert not loaded.drops(udp(A, 1000, B, 2000, HELLO))
        loaded.program.delete(ip_address(A).packed)
        assert not loaded.drops(udp(A, 1000, B, 2000, HELLO))
        assert list(loaded.program.bans()) == []


def test_without_a_duration_signatures_drop_nothing() -> None:
    with driver(in_driver([chat()]), ban_ns=0) as loaded:
        assert not loaded.drops(udp(A, 1000, B, 2000, HELLO))
        assert list(loaded.program.bans()) == []


def test_no_ban_without_an_event_when_nobody_listens() -> None:
    source = sources()
    with driver(in_driver([chat()]), ban_ns=3600 * 10**9) as loaded:
        dropped = 0
        while loaded.drops(udp(next(source), 1000, B, 2000, HELLO)):
            dropped += 1
        # The map has room for all that can wait, beside the bans it was built for.
        assert 1000 < dropped == len(list(loaded.program.bans())) == len(loaded.program.events())
        assert loaded.drops(udp(next(source), 1000, B, 2000, HELLO)), "there is room again"


# --- refusals


def _raw(name: str, condition: str) -> DriverSignature:
    return DriverSignature(
        name, 1, Then.model_validate({"action": "block"}), "udp_packet", condition
    )


def test_what_the_kernel_refuses_is_left_out_and_named() -> None:
    good = in_driver([chat()])
    unchecked, broken = (
        _raw("example.unchecked", "payload[100] == 1"),
        _raw("example.broken", "nothing"),
    )
    built, refused = fit([unchecked, *good, broken], 1000)
    assert built.signatures == good
    assert "outside of the packet" in refused["example.unchecked"]
    assert "error: use of undeclared identifier" in refused["example.broken"]


def test_a_refusal_is_a_diagnostic(monkeypatch: pytest.MonkeyPatch) -> None:
    signature = chat()
    unchecked = replace(in_driver([signature])[0], condition="payload[100] == 1")
    monkeypatch.setattr("engine.enforce.program.in_driver", lambda _signatures: (unchecked,))
    built, (diagnostic,) = build_program([signature], capacity=1000)
    assert built.signatures == ()
    assert (diagnostic.code, diagnostic.severity) == ("S105", "warning")
    assert "does not take `example.chat`; NFQUEUE alone decides it" in diagnostic.message
    assert "outside of the packet" in diagnostic.hint
