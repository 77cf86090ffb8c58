"""TCP segments that say nothing new take a shorter way through, to the same answer."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.compiler.ruleset import RuleSet
from engine.inspect.inspector import Inspector
from engine.inspect.judgement import Judgement, Verdict
from engine.inspect.packet import ACK, SYN, decode
from tests.captures import ip
from tests.inspect.flows import rules

A, B = "10.0.0.1", "10.0.0.2"
SPACE = 1 << 32
STREAM = ("a.stream", "tcp", "stream", "u8(0) == 1", {"action": "drop"})
LATER = ("a.later", "tcp", "stream", "u32(0) == 0x47455420 and u8(4) == 0x61", {"action": "log"})
MIDDLE = ("a.middle", "tcp", "middle", "u8(0) == 2", {"action": "log"})
PACKET = ("a.packet", "tcp", "packet", "u8(0) == 3", {"action": "log"})
FLOW = ("a.flow", "tcp", "flow", "turn(0).size == 5000 or turn(1).size == 3", {"action": "log"})
RULESETS = [rules(*kinds) for kinds in ([STREAM, LATER, MIDDLE], [STREAM, PACKET], [STREAM, FLOW])]

payloads = st.one_of(
    st.sampled_from([b"", b"\1", b"\2", b"\3", b"x" * 1500, b"x" * 3000, b"GET /", b"GET abc"]),
    st.binary(max_size=5),
)


@st.composite
def segments(draw: st.DrawFn) -> bytes:
    """TCP in IPv4 between two hosts, honest or with any of what the short way looks at changed."""
    back = draw(st.booleans())
    ports = (2, 1) if back else (1, 2)
    sequence = draw(st.sampled_from([0, 1, 1501, 2000, 4501, 9000, SPACE - 1]))
    flags = draw(st.sampled_from([ACK, ACK, ACK, ACK, SYN, SYN | ACK, 0, 4]))
    acknowledgement = draw(st.sampled_from([0, 1, 9001]))
    words = draw(st.sampled_from([5, 5, 8]))
    fields = *ports, sequence, acknowledgement, words << 4, flags, 9, 0, 0
    header = struct.pack(">HHIIBBHHH", *fields) + bytes(4 * words - 20)
    data = bytearray(ip(B if back else A, A if back else B, 6, header + draw(payloads)))
    for position in draw(st.lists(st.sampled_from([0, 2, 3, 6, 7, 9, 32]), max_size=1)):
        data[position] = draw(st.sampled_from([0, 6, 17, 0x20, 0x40, 0x44, 0x46, 0x50, 0x80]))
    keep = draw(st.one_of(st.just(len(data)), st.just(len(data)), st.integers(24, len(data))))
    return bytes(data[:keep])


@pytest.mark.parametrize("ruleset", RULESETS, ids=["stream", "packet", "flow"])
@given(st.lists(segments(), max_size=30))
def test_the_short_way_is_only_shorter(ruleset: RuleSet, packets: list[bytes]) -> None:
    short, general = Inspector(ruleset), Inspector(ruleset)
    for datagram in packets:
        packet = decode(datagram)
        accepted = Judgement(Verdict.ACCEPT)
        expected = accepted if packet is None else general.judge(packet, 0)
        assert short.inspect(datagram, 0) == expected
        assert short.flows == general.flows
