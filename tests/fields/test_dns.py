"""DNS messages: whole, cut, wrong, and what only looks like one."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.fields.dns import parse_message


def message(name: str, kind: int = 1, *, flags: int = 0x0100, questions: int = 1) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    header = struct.pack(">HHHHHH", 4711, flags, questions, 0, 0, 0)
    return header + labels + b"\0" + struct.pack(">HH", kind, 1)


QUERY = message("Router.BitTorrent.com", 28)


def test_a_query() -> None:
    found = parse_message(QUERY)
    assert found is not None
    assert (found.response, found.name, found.type) == (False, b"router.bittorrent.com", 28)


def test_a_response_with_records_behind() -> None:
    found = parse_message(message("a.example", flags=0x8180) + bytes(16))
    assert found is not None
    assert (found.response, found.name) == (True, b"a.example")


@pytest.mark.parametrize("length", range(len(QUERY)))
def test_cut_anywhere_it_is_none(length: int) -> None:
    assert parse_message(QUERY[:length]) is None


@pytest.mark.parametrize(
    "payload",
    [
        message("a.example", questions=0),
        message("a.example", questions=2),
        message("a.example", flags=0x2800),
        QUERY[:12] + b"\xc0\x0c" + QUERY[14:],
        b"d1:ad2:id20:aaaaaaaaaaaaaaaaaaaae1:q4:ping1:t2:aa1:y1:qe",
        bytes(20),
    ],
    ids=["no question", "two", "update", "compressed", "DHT", "zeros"],
)
def test_wrong_and_look_alike(payload: bytes) -> None:
    assert parse_message(payload) is None


def test_a_name_is_bounded() -> None:
    assert parse_message(message(".".join(["a" * 60] * 20))) is None


@given(st.binary(max_size=300))
def test_any_bytes(tail: bytes) -> None:
    parse_message(tail)
    parse_message(QUERY[:12] + tail)
