"""Signatures of flows: turns as the inspector tells them, and tags."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.compiler.ruleset import RuleSet
from engine.fields.turns import HEAD_B, MAX_FOLLOWED_B, MAX_TURNS, NO_TURNS, TURNS_WITH_BYTES, Turns
from engine.inspect import tags
from engine.inspect.inspector import Inspector, Verdict
from engine.inspect.packet import ACK, SYN, TCP, UDP, Packet, reverse
from engine.inspect.stream import MAX_PENDING, PREFIX_B
from tests.captures import udp
from tests.compiler.written import signature
from tests.inspect.datagrams import datagrams, mutated

CLIENT, SERVER = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])
THERE = CLIENT + SERVER + bytes([0, 9, 0, 1])
BACK = reverse(THERE)
SPACE = 1 << 32


def rules(*rules: tuple[str, str, str, str, dict[str, object]]) -> RuleSet:
    """From (id, transport, inspect, condition, then)."""
    return RuleSet(
        [
            signature(when, name=name, transport=transport, inspect=inspect, then=then)
            if inspect != "flow"
            else signature(
                when, name=name, transport=transport, inspect=inspect, then=then, always=True
            )
            for name, transport, inspect, when, then in rules
        ]
    )


def following(when: str = "flow.packets == 0", action: str = "block") -> RuleSet:
    """Two signatures of flows, one for each transport; as it is, they never match."""
    return rules(*[(f"a.{t}", t, "flow", when, {"action": action}) for t in ("tcp", "udp")])


def datagram(payload: bytes, key: bytes = THERE) -> Packet:
    return Packet(UDP, key, payload, len(payload), 0, 0)


def segment(payload: bytes, sequence: int, key: bytes = THERE, flags: int = ACK) -> Packet:
    return Packet(TCP, key, payload, len(payload), sequence % SPACE, flags)


@dataclass
class Connection:
    """A TCP connection through an inspector, whose SYNs have been seen."""

    inspector: Inspector
    firsts: tuple[int, int] = (1000, 2000)

    def __post_init__(self) -> None:
        there, back = self.firsts
        self.inspector.judge(segment(b"", there - 1, THERE, SYN), 0)
        self.inspector.judge(segment(b"", back - 1, BACK, SYN | ACK), 0)

    def send(self, client: bool, offset: int, payload: bytes, now_s: float = 0) -> list[str]:
        """Ids of what is detected."""
        first = self.firsts[0 if client else 1]
        packet = segment(payload, first + offset, THERE if client else BACK)
        return [d.signature for d in self.inspector.judge(packet, now_s).detections]

    @property
    def turns(self) -> Turns | None:
        return self.inspector._tcp.side(THERE).flow.turns


def told(turns: Turns) -> list[tuple[bool | None, int | None, bytes]]:
    return [(turns.from_client(n), turns.size(n), turns.head(n)) for n in range(turns.begun)]


def runs(events: Sequence[tuple[bool, bytes]]) -> list[tuple[bool, int, bytes]]:
    """The oracle: what is new, joined while one side sends."""
    joined = [
        (side, b"".join(data for _, data in run))
        for side, run in itertools.groupby(events, key=lambda event: event[0])
    ]
    return [
        (side, len(data), data[:HEAD_B] if n < TURNS_WITH_BYTES else b"")
        for n, (side, data) in enumerate(joined)
    ]


# --- turns


@st.composite
def conversations(draw: st.DrawFn) -> tuple[list[bytes], list[tuple[bool, int, int]]]:
    """What each side sends, and segments of it (from the client, start, end) in any order."""
    sent = [draw(st.binary(min_size=1, max_size=400)) for _ in range(2)]
    segments = []
    for client, data in zip((True, False), sent, strict=True):
        cuts = draw(st.lists(st.integers(0, len(data)), max_size=MAX_PENDING // 2))
        edges = [0, *sorted(cuts), len(data)]
        segments += [(client, a, b) for a, b in itertools.pairwise(edges)]
        overlapping = st.tuples(st.integers(0, len(data)), st.integers(0, len(data))).map(sorted)
        again = draw(st.lists(overlapping, max_size=MAX_PENDING // 2 - 1))
        segments += [(client, a, b) for a, b in again]
    return sent, draw(st.permutations(segments))


@settings(deadline=None)
@given(conversations(), st.integers(0, SPACE - 1), st.integers(0, SPACE - 1))
def test_turns_of_tcp_are_what_has_come_in_order(
    conversation: tuple[list[bytes], list[tuple[bool, int, int]]], there: int, back: int
) -> None:
    sent, segments = conversation
    connection = Connection(Inspector(following()), (there, back))
    seen: list[set[int]] = [set(), set()]
    counted = [0, 0]
    events: list[tuple[bool, bytes]] = []
    begun = False
    for client, start, end in segments:
        side = 0 if client else 1
        connection.send(client, start, sent[side][start:end])
        begun = begun or end > start
        seen[side].update(range(start, end))
        in_order = next(n for n in itertools.count() if n not in seen[side])
        if in_order > counted[side]:
            events.append((client, sent[side][counted[side] : in_order]))
            counted[side] = in_order
        expected = runs(events)
        if len(expected) > MAX_TURNS:
            assert connection.turns is None
            return
        assert connection.turns is not None
        assert told(connection.turns) == expected
        assert (connection.turns is not NO_TURNS) is begun


@given(st.lists(st.tuples(st.booleans(), st.binary(min_size=1, max_size=50)), max_size=12))
def test_turns_are_the_same_one_byte_at_a_time(said: list[tuple[bool, bytes]]) -> None:
    connection = Connection(Inspector(following()))
    offsets = {True: 0, False: 0}
    for client, data in said:
        for number, byte in enumerate(data):
            connection.send(client, offsets[client] + number, bytes([byte]))
        offsets[client] += len(data)
    expected = runs(said)
    if len(expected) <= MAX_TURNS:
        assert told(connection.turns or Turns()) == expected
    else:
        assert connection.turns is None


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=60)), max_size=12))
def test_turns_of_udp_are_the_datagrams_of_one_side(said: list[tuple[bool, bytes]]) -> None:
    inspector = Inspector(following())
    for client, data in said:
        inspector.judge(datagram(data, THERE if client else BACK), 0)
    said = [(client, data) for client, data in said if data]
    # Whoever is seen first has opened the flow.
    expected = runs(said)
    turns = inspector._udp.side(THERE).flow.turns
    if len(expected) <= MAX_TURNS:
        assert [(size, head) for _, size, head in told(turns or Turns())] == [
            (size, head) for _, size, head in expected
        ]
    else:
        assert turns is None


def test_beyond_the_start_of_a_stream_nothing_is_waited_for() -> None:
    connection = Connection(Inspector(following()))
    connection.send(True, 0, bytes(PREFIX_B + 10))
    connection.send(True, PREFIX_B + 500, bytes(100))  # 490 bytes are missing
    assert connection.turns is not None
    assert connection.turns.size(0) == PREFIX_B + 600
    connection.send(True, PREFIX_B + 10, bytes(490))
    assert connection.turns.size(0) == PREFIX_B + 600


def test_bytes_that_were_not_captured_count() -> None:
    connection = Connection(Inspector(following()))
    connection.inspector.judge(Packet(TCP, THERE, bytes(50), 700, 1000, ACK), 0)
    connection.send(False, 0, b"x")
    connection.send(True, 700, b"abc")
    assert connection.turns is not None
    assert [connection.turns.size(n) for n in range(3)] == [700, 1, 3]


def test_turns_of_a_connection_that_began_before_are_not_told() -> None:
    inspector = Inspector(following("turn(0).size > 0"))
    for number, key in enumerate((THERE, BACK, THERE)):
        assert inspector.judge(segment(b"abc", 100 + 3 * number, key), 0).verdict is Verdict.ACCEPT
    assert inspector._tcp.side(THERE).flow.turns is None


def test_a_syn_ack_tells_who_opened() -> None:
    inspector = Inspector(following("turn(0).from_client and not flow.from_client"))
    inspector.judge(segment(b"", 99, BACK, SYN | ACK), 0)
    assert inspector.judge(segment(b"abc", 1), 0).verdict is Verdict.ACCEPT
    assert inspector.judge(segment(b"abc", 100, BACK), 0).verdict is Verdict.DROP


def test_who_opened_is_unknown_where_it_was_not_seen() -> None:
    for when in ("flow.from_client", "not flow.from_client"):
        inspector = Inspector(rules(("a.b", "tcp", "packet", f"u8(0) == 1 and {when}", BLOCK)))
        for key in (THERE, BACK):
            assert inspector.judge(segment(b"\1", 5, key), 0).verdict is Verdict.ACCEPT


BLOCK: dict[str, object] = {"action": "block"}


# --- signatures of flows


def test_a_flow_is_stopped_at_the_packet_that_tells() -> None:
    when = "turn(0).size in 96..609 and turn(1).size in 96..609 and turn(2).size >= 58"
    connection = Connection(Inspector(following(when)))
    assert connection.send(True, 0, bytes(200)) == []
    assert connection.send(False, 0, bytes(300)) == []
    assert connection.send(True, 200, bytes(57)) == []
    assert connection.send(True, 257, bytes(1)) == ["a.tcp"]
    packet = segment(b"x", 2300, BACK)
    assert connection.inspector.judge(packet, 0).verdict is Verdict.DROP
    assert connection.turns is None


def test_what_has_been_told_is_let_go() -> None:
    inspector = Inspector(following("turn(0).size == 3", "log"))
    (detection,) = inspector.judge(datagram(b"abc"), 0).detections
    assert (detection.signature, detection.action) == ("a.udp", "log")
    assert inspector._udp.side(THERE).flow.turns is None
    assert not inspector.judge(datagram(b"abc"), 0).detections


def test_a_long_flow_is_followed_only_at_first() -> None:
    inspector = Inspector(following("flow.payload_packets == 40"))
    for _ in range(60):
        assert inspector.judge(datagram(bytes(1000)), 0).verdict is Verdict.ACCEPT
    assert inspector._udp.side(THERE).flow.turns is None
    assert MAX_FOLLOWED_B < 40 * 1000


def test_after_the_turns_that_are_kept_a_flow_is_not_followed() -> None:
    inspector = Inspector(following(f"turn({MAX_TURNS - 1}).complete", "log"))
    found = [
        bool(inspector.judge(datagram(b"x", key), 0).detections)
        for key, _ in zip(itertools.cycle((THERE, BACK)), range(2 * MAX_TURNS), strict=False)
    ]
    assert found == [n == MAX_TURNS for n in range(2 * MAX_TURNS)]


def test_a_flow_that_began_under_another_ruleset_is_not_followed() -> None:
    inspector = Inspector(rules(("a.b", "udp", "packet", "u8(0) == 1", BLOCK)))
    inspector.judge(datagram(b"abc"), 0)
    inspector.ruleset = following("turn(0).size > 0")
    assert inspector.judge(datagram(b"abc"), 0).verdict is Verdict.ACCEPT
    assert inspector.judge(datagram(b"abc", CLIENT + SERVER + bytes(4)), 0).verdict is Verdict.DROP


def test_nothing_is_recorded_without_signatures_of_flows() -> None:
    inspector = Inspector(
        rules(
            ("a.b", "udp", "flow", "turns > 9", BLOCK),
            ("a.c", "tcp", "packet", "u8(0) == 1", BLOCK),
        )
    )
    connection = Connection(inspector)
    connection.send(True, 0, b"abc")
    assert connection.turns is NO_TURNS


def test_what_one_signature_logs_another_may_stop() -> None:
    inspector = Inspector(
        rules(
            ("a.log", "tcp", "stream", "u8(0) == 0x61", {"action": "log"}),
            ("a.packet", "tcp", "packet", "u8(0) == 0x61", {"action": "log"}),
            ("b.flow", "tcp", "flow", 'turn(0).text(0, 1) == "a"', {"action": "log"}),
            ("c.stop", "tcp", "flow", "turn(1).size == 2", {"action": "drop"}),
            ("d.never", "tcp", "flow", "turn(2).size > 0", {"action": "block"}),
        )
    )
    connection = Connection(inspector)
    assert connection.send(True, 0, b"abc") == ["a.log", "a.packet", "b.flow"]
    assert connection.send(True, 3, b"abc") == []
    assert connection.send(False, 0, b"xy") == ["c.stop"]
    assert connection.send(True, 6, b"abc") == []
    assert inspector.judge(segment(b"z", 1009), 0).verdict is Verdict.DROP


def test_a_threshold_holds_a_flow_back() -> None:
    threshold = {"count": 2, "per": "src", "within": "10s"}
    then: dict[str, object] = {"action": "drop", "threshold": threshold}
    inspector = Inspector(rules(("a.b", "udp", "flow", "turn(0).size == 3", then)))
    keys = [CLIENT + SERVER + bytes([0, port, 0, 1]) for port in (1, 2)]
    verdicts = [inspector.judge(datagram(b"abc", key), 0).verdict for key in keys]
    assert verdicts == [Verdict.ACCEPT, Verdict.DROP]


# --- tags


def tagging(**then: object) -> RuleSet:
    """Tags of the first byte 1; with the first byte 2 a tagged host is stopped."""
    tag = {"name": "peer", "of": "src", "for": "10s"}
    return rules(
        ("a.tag", "udp", "packet", "u8(0) == 1", {"action": "tag", "tag": tag} | then),
        ("b.src", "udp", "packet", 'u8(0) == 2 and src.tagged("peer")', BLOCK),
        ("b.dst", "udp", "packet", 'u8(0) == 2 and dst.tagged("peer")', BLOCK),
    )


def found(inspector: Inspector, payload: bytes, key: bytes, now_s: float = 0) -> list[str]:
    return [d.signature for d in inspector.judge(datagram(payload, key), now_s).detections]


OTHER = bytes([10, 0, 0, 3])


@pytest.mark.parametrize(
    ("of", "tagged"),
    [("src", {CLIENT}), ("dst", {SERVER}), ("both", {CLIENT, SERVER})],
)
def test_a_tag_is_on_whom_it_is_meant_for(of: str, tagged: set[bytes]) -> None:
    inspector = Inspector(tagging(tag={"name": "peer", "of": of, "for": "10s"}))
    judgement = inspector.judge(datagram(b"\1"), 0)
    assert judgement.verdict is Verdict.ACCEPT
    assert [d.action for d in judgement.detections] == ["tag"]
    for host in (CLIENT, SERVER, OTHER):
        key = host + OTHER + bytes([0, 5, 0, 5])
        expected = ["b.src"] if host in tagged else []
        assert found(inspector, b"\2", key) == expected
        inspector._udp.start(key)
        assert found(inspector, b"\2", reverse(key)) == [w.replace("src", "dst") for w in expected]


def test_a_tag_expires_and_is_renewed_while_it_goes_on() -> None:
    inspector = Inspector(tagging())
    assert found(inspector, b"\1", THERE, 0) == ["a.tag"]
    assert found(inspector, b"\1", THERE, 8) == []
    for port, now_s, expected in ((1, 17.9, ["b.src"]), (2, 18.0, [])):
        assert found(inspector, b"\2", CLIENT + OTHER + bytes([0, port, 0, 1]), now_s) == expected


def test_a_threshold_holds_a_tag_back() -> None:
    threshold = {"count": 2, "per": "src", "within": "10s"}
    inspector = Inspector(tagging(threshold=threshold))
    keys = [CLIENT + SERVER + bytes([0, port, 0, 9]) for port in range(4)]
    assert found(inspector, b"\1", keys[0]) == []
    assert found(inspector, b"\2", keys[1]) == []
    assert found(inspector, b"\1", keys[2]) == ["a.tag"]
    assert found(inspector, b"\2", keys[3]) == ["b.src"]


def test_tags_outlive_a_reload() -> None:
    inspector = Inspector(tagging())
    found(inspector, b"\1", THERE)
    inspector.ruleset = tagging()
    assert found(inspector, b"\2", CLIENT + OTHER + bytes(4)) == ["b.src"]


# --- any bytes

EVERYTHING = rules(
    *[
        (f"a.{transport}-{number}", transport, "flow", when, then)
        for transport in ("tcp", "udp")
        for number, (when, then) in enumerate(
            [
                ("turn(0).entropy(0, 4) > 1.9 and turn(1).u32(1) > 5", {"action": "drop"}),
                ("turns > 2 or turn(0).printable(0, 2) > 0.9", {"action": "log"}),
                (
                    'flow.bytes / turn(1).size == 3 and not src.tagged("x")',
                    {"action": "tag", "tag": {"name": "x", "of": "both", "for": "1s"}},
                ),
                ('dst.tagged("x") and not flow.from_client', {"action": "block"}),
            ]
        )
    ],
    ("b.packet", "tcp", "packet", "u8(0) == 1 or u8(0) == 0", {"action": "log"}),
)


@st.composite
def traffic(draw: st.DrawFn) -> list[bytes]:
    choice = st.one_of(
        mutated(),
        datagrams().map(lambda built: built.datagram),
        st.binary(max_size=60),
        st.builds(
            udp,
            st.sampled_from(["10.0.0.1", "10.0.0.2"]),
            st.integers(1, 2),
            st.sampled_from(["10.0.0.1", "10.0.0.2"]),
            st.integers(1, 2),
            st.binary(max_size=300),
        ),
    )
    return draw(st.lists(choice, max_size=30))


@settings(deadline=None)
@given(traffic(), st.floats(0, 5))
def test_no_bytes_make_it_raise(packets: list[bytes], step_s: float) -> None:
    inspector = Inspector(EVERYTHING, max_flows=6)
    for number, packet in enumerate(packets):
        inspector.inspect(packet, number * step_s)
        assert inspector.flows <= 12


segments = st.tuples(
    st.booleans(),
    st.sampled_from([0, ACK, SYN, SYN | ACK]),
    st.integers(-3000, 3000),
    st.integers(0, 3000),
    st.integers(0, 3000),
)


@settings(deadline=None)
@given(st.lists(segments, max_size=60))
def test_no_segments_make_it_raise_or_grow(steps: list[tuple[bool, int, int, int, int]]) -> None:
    inspector = Inspector(EVERYTHING)
    for client, flags, offset, captured, more in steps:
        packet = Packet(
            TCP,
            THERE if client else BACK,
            random.Random(captured).randbytes(captured),
            captured + more * (offset % 2),
            offset % SPACE,
            flags,
        )
        inspector.judge(packet, 0)
        turns = inspector._tcp.side(THERE).flow.turns
        if turns is not None:
            assert not turns.over
            assert sum(len(turns.head(n)) for n in range(MAX_TURNS)) <= TURNS_WITH_BYTES * HEAD_B


def test_many_hosts_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tags, "MAX_TAGS", 50)
    inspector = Inspector(tagging(), max_flows=40)
    for number in range(2000):
        found(inspector, b"\1", number.to_bytes(4, "big") + SERVER + bytes(4))
        assert len(inspector.tags) <= 50
        assert inspector.flows <= 80
    assert inspector.tags.has((1999).to_bytes(4, "big"), "peer", 0)
