from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.compiler.ruleset import RuleSet
from engine.inspect.inspector import Inspector
from engine.inspect.judgement import Judgement, Verdict
from engine.inspect.packet import ACK, SYN, Endpoint, decode
from engine.inspect.stream import PREFIX_B
from engine.paths import shipped_signatures
from engine.signatures import load
from tests.captures import ip, udp
from tests.compiler.written import signature
from tests.inspect.datagrams import datagrams, mutated

SHIPPED = load(shipped_signatures())
HANDSHAKE = b"\x13BitTorrent protocol" + bytes(48)
A, B = "10.0.0.1", "10.0.0.2"
A6, B6 = "2001:db8::1", "2001:db8::2"


def ruleset(*conditions: tuple[str, str, dict[str, object]]) -> RuleSet:
    """UDP rules from (id, condition, then)."""
    return RuleSet([signature(when, name=name, then=then) for name, when, then in conditions])


def segment(
    payload: bytes,
    sequence: int = 1,
    flags: int = ACK,
    ends: tuple[str, int, str, int] = (A, 1, B, 2),
    acknowledgement: int = 1,
) -> bytes:
    source, sport, destination, dport = ends
    header = struct.pack(
        ">HHIIBBHHH", sport, dport, sequence, acknowledgement, 0x50, flags, 9, 0, 0
    )
    return ip(source, destination, 6, header + payload)


BACK = (B, 2, A, 1)


def dropped(inspector: Inspector, *packets: bytes) -> list[bool]:
    return [inspector.inspect(p, 0).verdict is Verdict.DROP for p in packets]


# --- what the engine is for


@given(
    st.lists(st.integers(1, len(HANDSHAKE) - 1), max_size=15, unique=True),
    st.integers(0, 2**32 - 1),
    st.randoms(use_true_random=False),
)
def test_a_handshake_is_found_however_it_is_split(
    cuts: list[int], first: int, random: object
) -> None:
    edges = [0, *sorted(cuts), len(HANDSHAKE)]
    pieces = [(a, HANDSHAKE[a:b]) for a, b in itertools.pairwise(edges)]
    random.shuffle(pieces)  # type: ignore[attr-defined]
    inspector = Inspector(SHIPPED)
    inspector.inspect(segment(b"", first, SYN), 0)
    seen: set[int] = set()
    for offset, data in pieces:
        packet = segment(data, (first + 1 + offset) % 2**32)
        seen.update(range(offset, offset + len(data)))
        # With its twentieth byte it is told, and not before.
        assert dropped(inspector, packet) == [set(range(20)) <= seen]


@pytest.mark.parametrize("ends", [(A, 1, B, 2), (A6, 1, B6, 2)], ids=["IPv4", "IPv6"])
def test_detection_says_what_and_where(ends: tuple[str, int, str, int]) -> None:
    inspector = Inspector(SHIPPED)
    inspector.inspect(segment(b"", 0, SYN, ends), 0)
    inspector.inspect(segment(HANDSHAKE[:5], 1, ACK, ends), 0)
    judgement = inspector.inspect(segment(HANDSHAKE[5:], 6, ACK, ends), 0)
    (detection,) = judgement.detections
    packet = decode(segment(b"", ends=ends))
    assert packet is not None
    assert (detection.source, detection.destination) == (packet.source, packet.destination)
    assert (detection.signature, detection.action, detection.transport) == (
        "bittorrent.peer.handshake",
        "block",
        "tcp",
    )
    assert (detection.flow_packet, detection.payload_packet) == (3, 2)


def test_a_handshake_is_found_in_a_connection_that_began_before() -> None:
    assert dropped(Inspector(SHIPPED), segment(HANDSHAKE, 77)) == [True]


def test_the_answer_is_found_too() -> None:
    inspector = Inspector(SHIPPED)
    packets = [
        segment(b"", 0, SYN),
        segment(b"", 9, SYN | ACK, BACK),
        segment(b"hello", 1),
        segment(HANDSHAKE[:19], 10, ACK, BACK),
        segment(HANDSHAKE[19:], 29, ACK, BACK),
    ]
    assert dropped(inspector, *packets) == [False] * 4 + [True]


def test_data_on_the_syn_is_part_of_the_stream() -> None:
    inspector = Inspector(SHIPPED)
    packets = [segment(HANDSHAKE[:10], 100, SYN), segment(HANDSHAKE[10:], 111)]
    assert dropped(inspector, *packets) == [False, True]


@pytest.mark.parametrize("sequence", [1, 5, 1000])
def test_a_syn_ack_inside_a_connection_hides_nothing(sequence: int) -> None:
    inspector = Inspector(SHIPPED)
    packets = [
        segment(b"", 0, SYN),
        segment(HANDSHAKE[:5], 1),
        segment(b"", sequence, SYN | ACK),
        segment(HANDSHAKE[5:], 6),
    ]
    assert dropped(inspector, *packets) == [False, False, False, True]


def test_a_syn_again_with_another_number_counts() -> None:
    inspector = Inspector(SHIPPED)
    packets = [segment(b"", 0, SYN), segment(b"", 5000, SYN), segment(HANDSHAKE, 5001)]
    assert dropped(inspector, *packets) == [False, False, True]


# --- flows


def test_a_dropped_flow_stays_dropped_both_ways_and_is_told_once() -> None:
    inspector = Inspector(SHIPPED)
    inspector.inspect(segment(HANDSHAKE), 0)
    for packet in (
        segment(b"more", 69),
        segment(b"", 73),
        segment(b"answer", 1, ACK, BACK),
        segment(HANDSHAKE, 7, ACK, BACK),
    ):
        assert inspector.inspect(packet, 0) == Judgement(Verdict.DROP)
    assert dropped(inspector, segment(b"other", ends=(A, 3, B, 2))) == [False]


def test_ports_that_are_used_again_begin_a_new_flow() -> None:
    inspector = Inspector(SHIPPED)
    packets = [
        segment(HANDSHAKE),
        segment(b"", 500, SYN),
        segment(b"", 4, SYN | ACK, BACK, 501),
        segment(b"hello", 501),
    ]
    assert dropped(inspector, *packets) == [True, False, False, False]
    (detection,) = inspector.inspect(segment(HANDSHAKE, 5, ACK, BACK), 0).detections
    assert (detection.flow_packet, detection.payload_packet) == (3, 2)


def test_a_udp_flow_stays_dropped_both_ways() -> None:
    inspector = Inspector(ruleset(("a.b", "u8(0) == 1", {"action": "drop"})))
    packets = [udp(A, 1, B, 2, p) for p in (b"\x02", b"\x01", b"\x02", b"")]
    assert dropped(inspector, *packets, udp(B, 2, A, 1, b"x")) == [False, True, True, True, True]
    assert dropped(inspector, udp(A, 9, B, 2, b"x")) == [False]


def test_what_is_only_logged_passes_and_is_told_once() -> None:
    inspector = Inspector(
        ruleset(
            ("a.log", "u8(0) == 1", {"action": "log"}),
            ("b.drop", "u8(1) == 1", {"action": "drop"}),
        )
    )
    told = [
        (j.verdict, [d.signature for d in j.detections])
        for j in (inspector.inspect(udp(A, 1, B, 2, p), 0) for p in (b"\1", b"\1", b"\1\1", b"\1"))
    ]
    assert told == [
        (Verdict.ACCEPT, ["a.log"]),
        (Verdict.ACCEPT, []),
        (Verdict.DROP, ["b.drop"]),
        (Verdict.DROP, []),
    ]


@pytest.mark.parametrize(("per", "at"), [("src", 3), ("dst", 2)])
def test_a_threshold_holds_everything_back(per: str, at: int) -> None:
    rule = {"action": "block", "threshold": {"count": 2, "per": per, "within": "10s"}}
    inspector = Inspector(ruleset(("a.b", "u8(0) == 1", rule)))
    packets = [udp(A, 1, B, 2, b"\1"), udp(B, 2, A, 1, b"x"), udp("10.0.0.3", 1, B, 2, b"\1")]
    packets.append(udp(A, 7, B, 8, b"\1"))
    assert dropped(inspector, *packets).index(True) == at


def test_a_threshold_is_over_time() -> None:
    inspector = Inspector(SHIPPED)
    syn = struct.pack(">BBHIIIHH", 0x41, 0, 7, 1, 0, 1 << 20, 1, 0)
    for port, now_s, verdict in ((1, 0, "ACCEPT"), (2, 20, "ACCEPT"), (3, 25, "DROP")):
        assert inspector.inspect(udp(A, port, B, 2, syn), now_s).verdict is Verdict[verdict]


def test_another_ruleset_meets_the_same_flows() -> None:
    inspector = Inspector(ruleset(("a.b", "u8(0) == 1", {"action": "log"})))
    inspector.inspect(udp(A, 1, B, 2, b"\1"), 0)
    inspector.ruleset = ruleset(
        ("a.b", "u8(0) == 1", {"action": "log"}), ("a.c", "u8(0) == 1", {"action": "drop"})
    )
    (detection,) = inspector.inspect(udp(A, 1, B, 2, b"\1"), 0).detections
    assert (detection.signature, detection.flow_packet) == ("a.c", 2)


def test_single_segments_are_inspected_beside_the_stream() -> None:
    packet = signature(
        "$x at 0", '$x = "late"', name="a.packet", transport="tcp", then={"action": "log"}
    )
    stream = signature(
        "$x at 0", '$x = "early"', name="a.stream", transport="tcp", inspect="stream"
    )
    inspector = Inspector(RuleSet([packet, stream]))
    told = [
        [d.signature for d in inspector.inspect(segment(data, seq), 0).detections]
        for seq, data in ((1, b"x" * PREFIX_B), (1 + PREFIX_B, b"late"), (5 + PREFIX_B, b"early"))
    ]
    assert told == [[], ["a.packet"], []]


@pytest.mark.parametrize(
    "datagram",
    [b"", b"\x45", ip(A, B, 1, bytes(40)), ip(A6, B6, 58, HANDSHAKE), bytes(100)],
    ids=["nothing", "one byte", "ICMP", "ICMPv6", "zeros"],
)
def test_what_is_not_tcp_or_udp_is_accepted(datagram: bytes) -> None:
    inspector = Inspector(SHIPPED)
    assert inspector.inspect(datagram, 0) == Judgement(Verdict.ACCEPT)
    assert inspector.flows == 0


# --- any bytes

EXAMPLES = [test.payload for s in SHIPPED.signatures for test in s.tests]


@given(
    st.lists(
        st.one_of(
            mutated(),
            datagrams().map(lambda built: built.datagram),
            st.binary(max_size=100),
            st.builds(
                udp,
                st.just(A),
                st.integers(1, 3),
                st.just(B),
                st.just(2),
                st.sampled_from(EXAMPLES),
            ),
            st.builds(
                segment,
                st.sampled_from(EXAMPLES),
                st.integers(0, 9),
                st.sampled_from([0, SYN, ACK]),
            ),
        ),
        max_size=30,
    )
)
def test_no_bytes_make_it_raise_or_grow(packets: list[bytes]) -> None:
    inspector = Inspector(SHIPPED, max_flows=6)
    for packet in packets:
        judgement = inspector.inspect(packet, 0)
        stops = any(d.action != "log" for d in judgement.detections)
        assert judgement.verdict is Verdict.DROP or not stops
        assert inspector.flows <= 12


FIRST_BYTE = ruleset(
    ("a.drop", "u8(0) == 1", {"action": "drop"}), ("a.log", "u8(0) == 2", {"action": "log"})
)


@st.composite
def ipv4_udp(draw: st.DrawFn) -> bytes:
    """UDP in IPv4, honest or with any of what the fast path looks at changed."""
    payload = draw(st.sampled_from([b"", b"\1", b"\2", b"\1\1", b"\3abc"]))
    data = bytearray(udp(A, draw(st.integers(1, 2)), B, 2, payload))
    for position in draw(st.lists(st.sampled_from([0, 2, 3, 6, 7, 9, 24, 25]), max_size=2)):
        data[position] = draw(
            st.sampled_from([0, 6, 8, 9, 17, 27, 28, 29, 0x20, 0x40, 0x44, 0x45, 0x46, 0x60, 0x80])
        )
    keep = draw(st.one_of(st.just(len(data)), st.integers(24, len(data))))
    return bytes(data[:keep]) + draw(st.sampled_from([b"", b"", b"\1"]))


@given(st.lists(ipv4_udp(), max_size=8))
def test_the_fast_path_is_only_faster(packets: list[bytes]) -> None:
    fast, general = Inspector(FIRST_BYTE), Inspector(FIRST_BYTE)
    for datagram in packets:
        packet = decode(datagram)
        accepted = Judgement(Verdict.ACCEPT)
        expected = accepted if packet is None else general.judge(packet, 0)
        assert fast.inspect(datagram, 0) == expected
        assert fast.flows == general.flows


def test_endpoints_of_a_detection_are_those_of_the_header() -> None:
    judgement = Inspector(FIRST_BYTE).inspect(udp(A, 40000, B, 2, b"\1"), 0)
    assert judgement.detections[0].source == Endpoint(bytes([10, 0, 0, 1]), 40000)
    assert judgement.detections[0].destination == Endpoint(bytes([10, 0, 0, 2]), 2)


# --- one side or both


@pytest.mark.parametrize(("a", "b"), [(A, B), (A6, B6)])
@pytest.mark.parametrize("answered", [False, True])
def test_a_detection_says_whether_both_sides_have_sent(a: str, b: str, answered: bool) -> None:
    then = {"action": "block", "ban": {"of": "both", "for": "1h"}}
    inspector = Inspector(ruleset(("a.b", "u8(0) == 0x41", then)))
    assert inspector.inspect(udp(a, 1, b, 2, b"hello"), 0.0).detections == ()
    if answered:
        inspector.inspect(udp(b, 2, a, 1, b""), 0.0)
    (found,) = inspector.inspect(udp(a, 1, b, 2, b"A"), 0.0).detections
    assert found.two_way is answered
    assert not found.repeated
    assert found.ban is not None
    assert (found.ban.of, found.ban.lasts_s) == ("both", 3600)
    packet = decode(udp(a, 1, b, 2, b"A"))
    assert packet is not None
    assert found.key == packet.key
