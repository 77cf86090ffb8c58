"""SYNs, real and forged: what they hide, what they begin, what they revive."""

from __future__ import annotations

import pytest

from engine.inspect.inspector import Inspector, Verdict
from engine.inspect.packet import ACK, SYN, Packet
from engine.inspect.starts import MAX_ELSEWHERE
from tests.inspect.flows import BACK, THERE, Connection, answer, following, rules, segment

RST, FIN = 0x04, 0x01
STREAM = rules(("a.hello", "tcp", "stream", "u64(0) == 0x68656c6c6f206772", {"action": "drop"}))
HELLO = b"hello greeting"
SYN_1000 = segment(b"", 999, THERE, SYN)


def dropped(*packets: Packet) -> list[bool]:
    inspector = Inspector(STREAM)
    return [inspector.judge(packet, 0).verdict is Verdict.DROP for packet in packets]


def forged(sequence: int, flags: int = SYN) -> Packet:
    return segment(b"", sequence, THERE, flags)


@pytest.mark.parametrize("acknowledged", [True, False])
@pytest.mark.parametrize("sequence", [0, 990, 1004, 1 << 31, 5_000_000])
@pytest.mark.parametrize("flags", [SYN, SYN | ACK, RST, RST | ACK, FIN | ACK])
@pytest.mark.parametrize("when", ["before", "after", "between"])
def test_a_forged_segment_hides_nothing(
    when: str, flags: int, sequence: int, acknowledged: bool
) -> None:
    lie = forged(sequence, flags)
    syns = {"before": [lie, SYN_1000], "after": [SYN_1000, lie]}.get(when, [SYN_1000])
    middle = [lie] if when == "between" else []
    packets = [
        *syns,
        *([answer(1999, 1000)] if acknowledged else []),
        segment(HELLO[:5], 1000),
        *middle,
        segment(HELLO[5:], 1005),
    ]
    assert dropped(*packets) == [False] * (len(packets) - 1) + [True]


def test_a_forged_syn_with_data_hides_nothing() -> None:
    lie = segment(b"x" * 20, 989, THERE, SYN)
    assert dropped(lie, SYN_1000, segment(HELLO, 1000)) == [False, False, True]


@pytest.mark.parametrize("acknowledged", [True, False])
def test_many_forged_syns_hide_nothing(acknowledged: bool) -> None:
    lies = [forged(100_000 * n) for n in range(3 * MAX_ELSEWHERE)]
    seen = [answer(1999, 1000)] if acknowledged else []
    for syns in ([SYN_1000, *lies], [*lies, SYN_1000]):
        packets = [*syns, *seen, segment(HELLO, 1000)]
        assert dropped(*packets) == [False] * (len(packets) - 1) + [True]


def test_without_any_syn_that_fits_the_first_segment_is_a_start() -> None:
    assert dropped(forged(7_000_000), segment(HELLO, 1000)) == [False, True]


def test_what_the_peer_acknowledges_is_where_turns_begin() -> None:
    inspector = Inspector(following())
    for packet in (forged(989), SYN_1000, answer(1999, 1000)):
        inspector.judge(packet, 0)
    inspector.judge(segment(HELLO, 1000), 0)
    turns = inspector._tcp.side(THERE).flow.turns
    assert turns is not None
    assert (turns.size(0), turns.head(0)) == (len(HELLO), HELLO)


def test_a_syn_that_nobody_saw_may_be_acknowledged() -> None:
    inspector = Inspector(following())
    for packet in (answer(1999, 1000), segment(HELLO, 1000)):
        inspector.judge(packet, 0)
    turns = inspector._tcp.side(THERE).flow.turns
    assert turns is not None
    assert (turns.from_client(0), turns.size(0)) == (True, len(HELLO))


# --- a flow that is dropped


def test_a_forged_syn_revives_nothing() -> None:
    packets = [SYN_1000, answer(1999, 1000), segment(HELLO, 1000)]
    lies = [forged(5000), segment(b"more", 5001), segment(b"more", 1014), answer(1999, 1000)]
    assert dropped(*packets, *lies) == [False, False, True, False, True, True, True]


def test_the_other_side_alone_revives_nothing() -> None:
    packets = [SYN_1000, answer(1999, 1000), segment(HELLO, 1000)]
    lies = [answer(7000, 5001), segment(b"more", 7001, BACK), segment(b"more", 1014)]
    assert dropped(*packets, *lies) == [False, False, True, True, True, True]


def test_a_syn_with_data_does_not_pass_in_a_dropped_flow() -> None:
    packets = [SYN_1000, segment(HELLO, 1000), segment(b"data", 5000, THERE, SYN)]
    assert dropped(*packets) == [False, True, True]


def test_ports_may_be_used_again_for_another_connection() -> None:
    again = [
        forged(5000),
        answer(7000, 5001),
        segment(b"innocent", 5001),
        segment(b"x", 7001, BACK),
    ]
    packets = [SYN_1000, answer(1999, 1000), segment(HELLO, 1000), *again]
    assert dropped(*packets) == [False, False, True] + [False] * 4
    packets += [segment(HELLO[:3], 7002, BACK)]
    assert not dropped(*packets)[-1]


@pytest.mark.parametrize("answered", [True, False])
def test_another_connection_on_the_same_ports_is_inspected(answered: bool) -> None:
    connection = Connection(Inspector(STREAM))
    assert connection.send(True, 0, bytes(3000)) == []
    connection.inspector.judge(forged(500_000), 0)
    if answered:
        connection.inspector.judge(answer(7000, 500_001), 0)
    packet = segment(HELLO, 500_001)
    (detection,) = connection.inspector.judge(packet, 0).detections
    # Without the answer nobody knows that it is another one.
    assert (detection.flow_packet == 2) is answered


def test_turns_begin_anew_with_another_connection() -> None:
    connection = Connection(Inspector(following("turn(0).size == 4 and turn(1).size == 2")))
    assert connection.send(True, 0, b"a longer turn") == []
    for packet in (forged(500_000), answer(7000, 500_001)):
        connection.inspector.judge(packet, 0)
    assert not connection.inspector.judge(segment(b"four", 500_001), 0).detections
    assert connection.inspector.judge(segment(b"ab", 7001, BACK), 0).detections
