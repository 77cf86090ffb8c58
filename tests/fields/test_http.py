"""HTTP/1 messages: whole, cut, wrong, and what only looks like one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.fields.http import MAX_HEADERS, parse_message

REQUEST = (
    b"GET /announce?info_hash=x HTTP/1.1\r\n"
    b"Host: Tracker.Example.org:6969\r\nUSER-AGENT: uTorrent/3.5 \r\n\r\nHost: body\r\n"
)


def test_a_whole_request() -> None:
    message = parse_message(REQUEST)
    assert message is not None
    assert (message.method, message.path, message.query) == (b"GET", b"/announce", b"info_hash=x")
    assert message.host == b"tracker.example.org"
    assert message.headers[b"user-agent"] == b"uTorrent/3.5"
    assert message.status is None


def test_a_response() -> None:
    message = parse_message(b"HTTP/1.0 404 Not Found\r\nServer: x\r\n\r\n")
    assert message is not None
    assert (message.status, message.method, message.target) == (404, None, None)
    assert message.headers == {b"server": b"x"}
    assert message.complete


@pytest.mark.parametrize("length", range(len(REQUEST)))
def test_cut_anywhere_it_tells_what_has_arrived(length: int) -> None:
    message = parse_message(REQUEST[:length])
    assert (message is not None) == (length >= REQUEST.index(b"\n") + 1)
    if message is not None:
        assert message.host in (None, b"tracker.example.org")
        assert message.complete == (length >= REQUEST.index(b"\r\n\r\n") + 4)
        assert (b"user-agent" in message.headers) == (length >= REQUEST.index(b" \r\n\r\n") + 3)


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        b"GET / HTTP/2.0\r\n",
        b"GET  / HTTP/1.1\r\n",
        b"GET /\r\n",
        b" GET / HTTP/1.1\r\n",
        b"\x13BitTorrent protocol",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 OK\r\n",
    ],
)
def test_wrong_and_look_alike(stream: bytes) -> None:
    assert parse_message(stream) is None


@pytest.mark.parametrize(
    ("value", "host"),
    [
        (b"a.example", b"a.example"),
        (b"A.example:80", b"a.example"),
        (b"[2001:DB8::1]:80", b"2001:db8::1"),
        (b"", b""),
    ],
)
def test_host(value: bytes, host: bytes) -> None:
    message = parse_message(b"GET / HTTP/1.1\r\nHost: %s\r\n\r\n" % value)
    assert message is not None
    assert message.host == host


def test_headers_are_bounded() -> None:
    many = b"".join(b"h%d: v\r\n" % n for n in range(10 * MAX_HEADERS))
    message = parse_message(b"GET / HTTP/1.1\r\n" + many)
    assert message is not None
    assert len(message.headers) == MAX_HEADERS
    assert not message.complete


@given(st.binary(max_size=300))
def test_any_bytes(tail: bytes) -> None:
    parse_message(tail)
    parse_message(b"GET / HTTP/1.1\r\n" + tail)
    parse_message(b"HTTP/1.1 200" + tail)
