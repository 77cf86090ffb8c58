"""What a field is said to imply holds: its expression matches wherever the field is known."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.compiler.database import Database
from engine.compiler.expression import HsExpression, literal
from engine.fields import VOCABULARY, Context
from engine.language.vocabulary import Field, Type

VIEWED = [field for field in VOCABULARY.values() if field.implied]
TEXTS = [field for field in VOCABULARY.values() if field.quoted or field.spell]

# Beginnings of messages, whole ones, and what comes between.
_pieces = st.sampled_from(
    [
        *(b"d", b"e", b"1:a", b"01:a", b"1:r", b"2:id", b"1:q", b"4:ping", b"1:y", b"1:v", b"i1e"),
        *(b"6:target", b"9:info_hash", b"1:t", b"le", b"0:", b"2:aa", b"1:el", b"01:e", b"i-1e"),
        *(b"GET ", b"/a?b", b" HTTP/1.1\r\n", b" HTTP/1.0\n", b"Host: A.b:80\r\n", b"\r\n"),
        *(b"HTTP/1.1 200", b" OK\r\n", b"user-agent:x\n", b"Host:[::1]:80\n"),
        *(b"\x16\x03\x01", b"\x00\x05", b"\x01\x00\x00\x40\x03\x03", b"\x00\x00", b"\x00\x02"),
        *(b"\x41\x00", b"\x01\x01", b"\x00\x01", b"\x03www\x00", b"\x01A\x00", bytes(4), bytes(12)),
    ]
)
_hello = b"\x03\x03" + bytes(32) + b"\0" + b"\0\2\x13\1" + b"\1\0"
_sni = b"\0\0\0\x0a\0\x08\0\0\5Hello"


def _records(message: bytes, cuts: list[int]) -> bytes:
    """A handshake message in TLS records, cut at these lengths (a record may be empty)."""
    out, position = b"", 0
    for length in [*cuts, len(message)]:
        part = message[position : position + length]
        out += b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part
        position += length
    return out


_extensions = _sni + b"\0\x10\0\5\0\3\2h2"
_client_hello = (
    b"\1"
    + (len(_hello) + 2 + len(_extensions)).to_bytes(3, "big")
    + _hello
    + len(_extensions).to_bytes(2, "big")
    + _extensions
)
_hellos = st.builds(_records, st.just(_client_hello), st.lists(st.integers(0, 60), max_size=3))
_questions = st.builds(
    lambda flags, labels, rest: (
        b"ID" + bytes([flags, 0, 0, 1]) + bytes(6) + b"".join(labels) + b"\0\0\1\0\1" + rest
    ),
    st.integers(0, 255),
    st.lists(st.sampled_from([b"\x03www", b"\x01A", b"\x02\x00b"]), max_size=3),
    st.binary(max_size=3),
)
EXAMPLES = [
    b"d1:ad2:id2:ab9:info_hash2:cd6:target2:efe1:q4:ping1:t2:aa1:v2:bb1:y1:qe",
    b"d1:rd2:id2:abe1:y1:re",
    b"d1:eli201e2:aae1:y1:ee",
    b"GET /a?b=c HTTP/1.1\r\nHost: A.b:80\r\nUser-Agent: x\r\n\r\n",
    b"HTTP/1.1 404 Not Found\r\nHost: [::1]\r\nuser-agent:x\r\n",
    b"\x41\x00" + bytes(18),
    b"\x01\x01" + bytes(18) + b"\x00\x04abcdrest",
    _records(_client_hello, []),
    b"ID\x01\x00\x00\x01" + bytes(6) + b"\x03www\x01A\x00\x00\x01\x00\x01",
]


@st.composite
def _mutated(draw: st.DrawFn) -> bytes:
    payload = bytearray(draw(st.sampled_from(EXAMPLES)))
    for _ in range(draw(st.integers(0, 3))):
        payload[draw(st.integers(0, len(payload) - 1))] = draw(st.integers(0, 255))
    return bytes(payload[: draw(st.integers(0, 200))])


payloads = st.one_of(
    st.lists(_pieces, max_size=12).map(b"".join),
    st.binary(max_size=60),
    _mutated(),
    _hellos,
    _questions,
    st.lists(_pieces, max_size=8).map(lambda parts: b"d" + b"".join(parts) + b"e"),
    st.lists(_pieces).map(lambda parts: b"GET /a?b=c HTTP/1.1\r\n" + b"".join(parts)),
)


@cache
def _database(expression: HsExpression) -> Database:
    return Database([expression])


def _values(field: Field, context: Context) -> list[object]:
    if not field.parameters:
        return [field.read(context)]
    assert [kind for _, kind in field.parameters] == [Type.TEXT]
    return [field.read(context, name) for name in (b"host", b"User-Agent", b"gET /A")]


@given(payloads)
def test_a_known_field_implies_its_expression(payload: bytes) -> None:
    for field in VIEWED:
        assert field.implied is not None
        if any(value is not None for value in _values(field, Context(payload))):
            assert _database(HsExpression(field.implied.regex)).scan(payload), field.name


@given(payloads)
def test_a_text_stands_in_the_payload_as_the_field_says(payload: bytes) -> None:
    for field in TEXTS:
        for value in _values(field, Context(payload)):
            if not isinstance(value, bytes) or not value:
                continue
            if field.quoted == "exact":
                assert value in payload, field.name
            elif field.quoted == "nocase":
                assert Database([literal(value, nocase=True)]).scan(payload), field.name
            elif field.spell is not None and (spelled := field.spell(value)) is not None:
                assert Database([literal(spelled, nocase=True)]).scan(payload), field.name


@pytest.mark.parametrize("field", VIEWED, ids=lambda field: field.name)
def test_the_examples_know_every_field(field: Field) -> None:
    assert any(value is not None for e in EXAMPLES for value in _values(field, Context(e)))
