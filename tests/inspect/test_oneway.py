from __future__ import annotations

from dataclasses import replace

import pytest

from engine.inspect import oneway as module
from engine.inspect.judgement import Detection
from engine.inspect.oneway import OneWayFlows
from engine.inspect.packet import decode
from tests.captures import tcp, udp

A, B, A6, B6 = "198.51.100.1", "198.51.100.2", "2001:db8::1", "2001:db8::2"


def found(datagram: bytes, *, two_way: bool = False) -> Detection:
    packet = decode(datagram)
    assert packet is not None
    return Detection(
        *("a.b", 1, "block", packet.transport, packet.source, packet.destination, 1, 1),
        two_way=two_way,
    )


@pytest.mark.parametrize(("source", "destination"), [(A, B), (A6, B6)])
def test_the_other_side_s_packet_brings_it_back_once(source: str, destination: str) -> None:
    flows = OneWayFlows()
    detection = found(udp(source, 1, destination, 2, b"x"))
    flows.note([detection])
    assert flows.answered(udp(source, 1, destination, 2, b"again")) == ()
    assert flows.answered(udp(destination, 2, source, 3, b"another flow")) == ()
    assert not flows.waits_for(udp(destination, 2, source, 3, b"another flow"))
    back = udp(destination, 2, source, 1, b"")
    assert flows.waits_for(udp(source, 1, destination, 2, b"again"))
    assert flows.waits_for(back)
    assert flows.answered(back) == (replace(detection, two_way=True, repeated=True),)
    assert flows.answered(back) == ()
    assert not flows.waits_for(back)


def test_what_is_two_way_or_bans_nobody_is_no_concern_here() -> None:
    flows = OneWayFlows()
    flows.note([])
    flows.note([found(tcp(A, 1, B, 2, b"x"), two_way=True)])
    flows.note([replace(found(udp(A, 1, B, 2, b"x")), action="drop")])
    assert len(flows) == 0


def test_bytes_that_are_no_packet() -> None:
    flows = OneWayFlows()
    flows.note([found(udp(A, 1, B, 2, b"x"))])
    assert flows.answered(b"") == flows.answered(b"\x45") == ()


def test_the_oldest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 2)
    flows = OneWayFlows()
    for port in (1, 2, 3):
        flows.note([found(udp(A, port, B, 9, b"x"))])
    assert [bool(flows.answered(udp(B, 9, A, port, b""))) for port in (1, 2, 3)] == [
        False,
        True,
        True,
    ]
