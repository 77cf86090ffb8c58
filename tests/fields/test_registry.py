from __future__ import annotations

import struct
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.fields import VOCABULARY, Context
from engine.fields.turns import Turns
from engine.language.vocabulary import Type

KRPC = b"d1:ad2:id2:ab6:target1:te1:q4:ping1:t2:xy1:v4:UT121:y1:qe"
REPLY = b"d1:rd2:id2:cde1:t2:xy1:y1:re"
ERROR = b"d1:eli201e3:whye1:t2:xy1:y1:ee"
UTP = struct.pack(">BBHIIIHH", 0x21, 0, 2, 3, 4, 5, 6, 7)


def read(name: str, payload: bytes, *arguments: Any) -> Any:
    turns = Turns()
    turns.add(True, 300, b"GET /\x00\x01\x02\x03\x04")
    turns.add(False, 4, b"\x01\x02\x03\x04")
    context = Context(
        payload,
        bytes([10, 0, 0, 1]),
        bytes(15) + b"\x01",
        5,
        6,
        flow_packets=7,
        payload_packets=3,
        from_client=False,
        turns=turns,
        tagged=lambda host, tag: (len(host), tag) == (16, "peer"),
    )
    return VOCABULARY[name].read(context, *arguments)


@pytest.mark.parametrize(
    ("name", "payload", "arguments", "value"),
    [
        ("size", b"abc", (), 3),
        ("length", b"", (b"abcd",), 4),
        ("u8", b"\x01\x02", (1,), 2),
        ("u8", b"\x01\x02", (2,), None),
        ("u8", b"\x01\x02", (-1,), None),
        ("u16", b"\x01\x02\x03", (1,), 0x0203),
        ("u16le", b"\x01\x02\x03", (1,), 0x0302),
        ("u16", b"\x01\x02\x03", (2,), None),
        ("u32", b"\x01\x02\x03\x04", (0,), 0x01020304),
        ("u32le", b"\x01\x02\x03\x04", (0,), 0x04030201),
        ("u64", bytes(range(8)), (0,), 0x0001020304050607),
        ("u64le", bytes(range(8)), (0,), 0x0706050403020100),
        ("u64", bytes(8), (1,), None),
        ("u8", b"a", (1 << 70,), None),
        ("text", b"abcd", (1, 2), b"bc"),
        ("text", b"abcd", (3, 2), None),
        ("text", b"abcd", (1, 0), None),
        ("entropy", bytes(range(256)), (0, 256), 8),
        ("entropy", b"aaaa", (0, 4), 0),
        ("entropy", b"aaaa", (1, 4), None),
        ("entropy", b"aaaa", (0, 0), None),
        ("entropy", b"aaaa", (0, -1), None),
        ("printable", b"ab\r\x00", (0, 4), 0.75),
        ("printable", b"ab", (0, 3), None),
        ("src.ip", b"", (), ip_address("10.0.0.1")),
        ("dst.ip", b"", (), ip_address("::1")),
        ("src.port", b"", (), 5),
        ("dst.port", b"", (), 6),
        ("flow.packets", b"", (), 7),
        ("flow.payload_packets", b"", (), 3),
        ("flow.from_client", b"", (), False),
        ("flow.bytes", b"", (), 304),
        ("src.tagged", b"", (b"peer",), False),
        ("dst.tagged", b"", (b"peer",), True),
        ("dst.tagged", b"", (b"\xff",), False),
        ("turns", b"", (), 2),
        ("turn(n).size", b"", (0,), 300),
        ("turn(n).size", b"", (2,), None),
        ("turn(n).ends_at", b"", (0, 300), True),
        ("turn(n).ends_at", b"", (0, 0), False),
        ("turn(n).ends_at", b"", (5, 0), False),
        ("turn(n).complete", b"", (0,), True),
        ("turn(n).complete", b"", (1,), False),
        ("turn(n).complete", b"", (5,), False),
        ("turn(n).from_client", b"", (1,), False),
        ("turn(n).from_client", b"", (2,), None),
        ("turn(n).u8", b"x", (0, 0), ord("G")),
        ("turn(n).u16", b"x", (1, 1), 0x0203),
        ("turn(n).u16le", b"x", (1, 1), 0x0302),
        ("turn(n).u32", b"x", (1, 0), 0x01020304),
        ("turn(n).u32", b"x", (1, 1), None),
        ("turn(n).u32le", b"x", (1, 0), 0x04030201),
        ("turn(n).u64", b"x", (0, 2), 0x54202F0001020304),
        ("turn(n).u64le", b"x", (0, 2), 0x04030201002F2054),
        ("turn(n).entropy", b"x", (1, 0, 4), 2),
        ("turn(n).printable", b"x", (0, 0, 10), 0.5),
        ("turn(n).text", b"x", (0, 0, 4), b"GET "),
        ("turn(n).text", b"x", (0, 8, 4), None),
        ("bencode.y", KRPC, (), b"q"),
        ("bencode.q", KRPC, (), b"ping"),
        ("bencode.t", KRPC, (), b"xy"),
        ("bencode.v", KRPC, (), b"UT12"),
        ("bencode.a.id", KRPC, (), b"ab"),
        ("bencode.a.target", KRPC, (), b"t"),
        ("bencode.a.info_hash", KRPC, (), None),
        ("bencode.r.id", KRPC, (), None),
        ("bencode.r.id", REPLY, (), b"cd"),
        ("bencode.e", ERROR, (), 201),
        ("bencode.e", KRPC, (), None),
        ("bencode.end", KRPC + b"more", (), len(KRPC)),
        ("bencode.end", b"more", (), None),
        ("utp.type", UTP, (), 2),
        ("utp.connection_id", UTP, (), 2),
        ("utp.wnd_size", UTP, (), 5),
        ("utp.seq_nr", UTP, (), 6),
        ("utp.ack_nr", UTP, (), 7),
        ("utp.extensions_end", UTP, (), 20),
        ("utp.type", UTP[:-1], (), None),
    ],
)
def test_field(name: str, payload: bytes, arguments: tuple[Any, ...], value: Any) -> None:
    assert read(name, payload, *arguments) == value


def test_every_field_has_a_value_tested() -> None:
    marks = test_field.pytestmark  # type: ignore[attr-defined]
    tested = {name for name, _, _, value in marks[0].args[1] if value is not None}
    # Those of http, tls and dns are tested with their parsers.
    here = {name for name in VOCABULARY if name.split(".")[0] not in ("http", "tls", "dns")}
    assert tested | {"bencode.a.info_hash"} == here


PYTHON = {Type.NUMBER: int, Type.DECIMAL: float, Type.TEXT: bytes}


@given(
    st.one_of(st.binary(max_size=40), st.sampled_from([KRPC, REPLY, UTP])),
    st.tuples(st.integers(-9, 70), st.integers(-9, 70), st.integers(-9, 70)),
)
def test_fields_have_their_type_or_are_unknown(payload: bytes, numbers: tuple[int, ...]) -> None:
    for field in VOCABULARY.values():
        arguments = [
            payload if wanted is Type.TEXT else number
            for (_, wanted), number in zip(field.parameters, numbers, strict=False)
        ]
        value = read(field.name, payload, *arguments)
        assert value is not None or not field.certain
        if value is not None and field.type in PYTHON:
            assert isinstance(value, PYTHON[field.type])
