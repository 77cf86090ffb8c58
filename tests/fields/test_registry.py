from __future__ import annotations

import struct
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.fields import VOCABULARY, Context
from engine.language.vocabulary import Type

KRPC = b"d1:ad2:id2:ab6:target1:te1:q4:ping1:t2:xy1:v4:UT121:y1:qe"
REPLY = b"d1:rd2:id2:cde1:t2:xy1:y1:re"
UTP = struct.pack(">BBHIIIHH", 0x21, 0, 2, 3, 4, 5, 6, 7)


def read(name: str, payload: bytes, *arguments: Any) -> Any:
    context = Context(payload, bytes([10, 0, 0, 1]), bytes(15) + b"\x01", 5, 6, 7)
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
        ("bencode.y", KRPC, (), b"q"),
        ("bencode.q", KRPC, (), b"ping"),
        ("bencode.t", KRPC, (), b"xy"),
        ("bencode.v", KRPC, (), b"UT12"),
        ("bencode.a.id", KRPC, (), b"ab"),
        ("bencode.a.target", KRPC, (), b"t"),
        ("bencode.a.info_hash", KRPC, (), None),
        ("bencode.r.id", KRPC, (), None),
        ("bencode.r.id", REPLY, (), b"cd"),
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
    assert tested | {"bencode.a.info_hash"} == set(VOCABULARY)


PYTHON = {Type.NUMBER: int, Type.DECIMAL: float, Type.TEXT: bytes}


@given(
    st.one_of(st.binary(max_size=40), st.sampled_from([KRPC, REPLY, UTP])),
    st.integers(-9, 70),
    st.integers(-9, 70),
)
def test_fields_have_their_type_or_are_unknown(payload: bytes, first: int, second: int) -> None:
    for field in VOCABULARY.values():
        arguments = [
            payload if wanted is Type.TEXT else number
            for (_, wanted), number in zip(field.parameters, (first, second), strict=False)
        ]
        value = read(field.name, payload, *arguments)
        assert value is not None or not field.certain
        if value is not None and field.type in PYTHON:
            assert isinstance(value, PYTHON[field.type])
