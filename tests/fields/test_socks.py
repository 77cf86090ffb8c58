from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.compiler.database import Database
from engine.compiler.expression import HsExpression
from engine.fields.socks import UDP_HEADER, address_end, udp_header_len

SCAN = Database([HsExpression(UDP_HEADER)]).scan
IPV4 = b"\x01" + bytes([192, 0, 2, 1]) + b"\x1a\xe1"
NAME = b"\x03\x07tracker" + b"\x1a\xe1"
IPV6 = b"\x04" + bytes(16) + b"\x1a\xe1"


@pytest.mark.parametrize("address", [IPV4, NAME, IPV6], ids=["IPv4", "name", "IPv6"])
def test_the_header_ends_where_the_address_does(address: bytes) -> None:
    for before in (b"", b"xyz"):
        assert address_end(before + address + b"rest", len(before)) == len(before + address)
    assert udp_header_len(b"\0\0\0" + address + b"data") == 3 + len(address)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\0\0",
        b"\0\0\0",
        b"\0\0\0" + IPV4,
        b"\0\0\0" + IPV4[:-1],
        b"\0\0\0" + NAME,
        b"\0\0\0\x03",
        b"\0\0\1" + IPV4 + b"data",
        b"\1\0\0" + IPV4 + b"data",
        b"\0\0\0\x02" + bytes(30),
    ],
)
def test_what_is_no_header_or_has_nothing_behind_it(payload: bytes) -> None:
    assert udp_header_len(payload) == 0


@given(st.binary(max_size=40), st.booleans())
def test_the_expression_matches_wherever_there_is_a_header(data: bytes, zeros: bool) -> None:
    payload = bytes(3) * zeros + data
    length = udp_header_len(payload)
    assert 0 <= length < max(1, len(payload))
    if length:
        assert SCAN(payload) == [0]
