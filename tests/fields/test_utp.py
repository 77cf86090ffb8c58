from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.fields.utp import HEADER_B, MAX_EXTENSIONS, UtpHeader, parse_header


def header(first: int = 0x41, extension: int = 0) -> bytes:
    return struct.pack(">BBHIIIHH", first, extension, 2, 3, 4, 5, 6, 7)


def chain(*lengths: int) -> bytes:
    """Extensions of these lengths, each but the last saying that another follows."""
    more = [1] * (len(lengths) - 1) + [0]
    return b"".join(
        bytes([kind, length]) + bytes(length) for kind, length in zip(more, lengths, strict=True)
    )


@pytest.mark.parametrize("kind", range(5), ids=["data", "fin", "state", "reset", "syn"])
def test_fields(kind: int) -> None:
    assert parse_header(header(kind << 4 | 1) + b"data") == UtpHeader(kind, 2, 3, 4, 5, 6, 7, 20)


@given(st.lists(st.integers(0, 255), min_size=1, max_size=MAX_EXTENSIONS), st.binary(max_size=9))
def test_extensions_are_passed_over(lengths: list[int], data: bytes) -> None:
    found = parse_header(header(extension=1) + chain(*lengths) + data)
    assert found is not None
    assert found.extensions_end == HEADER_B + sum(2 + length for length in lengths)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        header()[:-1],
        header(0x40),
        header(0x42),
        header(0x51),
        header(extension=1),
        header(extension=1) + b"\0",
        header(extension=1) + b"\0\x01",
        header(extension=1) + chain(*[0] * (MAX_EXTENSIONS + 1)),
        b"d1:ad2:id20:aaaaaaaaaaaaaaaaaaaae1:q4:ping1:t2:aa1:y1:qe",
    ],
    ids=[
        "nothing",
        "header cut",
        "version 0",
        "version 2",
        "type 5",
        "extension missing",
        "extension without length",
        "extension cut",
        "too many extensions",
        "DHT",
    ],
)
def test_not_utp(payload: bytes) -> None:
    assert parse_header(payload) is None


@given(st.binary(max_size=60))
def test_no_bytes_make_it_raise(payload: bytes) -> None:
    found = parse_header(payload)
    assert found is None or HEADER_B <= found.extensions_end <= len(payload)
