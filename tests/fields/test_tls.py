"""ClientHello messages, made by the TLS library of this Python."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.fields.tls import parse_client_hello


def client_hello(name: str | None, protocols: list[str]) -> bytes:
    """The first bytes a TLS client sends."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if protocols:
        context.set_alpn_protocols(protocols)
    client = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


HELLO = client_hello("Tracker.example.org", ["h2", "http/1.1"])


def test_a_whole_hello() -> None:
    hello = parse_client_hello(HELLO)
    assert hello is not None
    assert (hello.version, hello.sni, hello.alpn) == (0x0303, b"tracker.example.org", b"h2")
    assert hello.complete


def test_without_extensions_of_interest() -> None:
    hello = parse_client_hello(client_hello(None, []))
    assert hello is not None
    assert (hello.sni, hello.alpn) == (None, None)


def test_spread_over_records() -> None:
    body = HELLO[5:]
    pieces = [body[i : i + 100] for i in range(0, len(body), 100)]
    records = b"".join(b"\x16\x03\x01" + len(p).to_bytes(2, "big") + p for p in pieces)
    assert parse_client_hello(records) == parse_client_hello(HELLO)


@pytest.mark.parametrize("length", range(0, len(HELLO), 7))
def test_cut_anywhere_it_never_misreads(length: int) -> None:
    hello = parse_client_hello(HELLO[:length])
    assert hello is None or hello.sni in (None, b"tracker.example.org")
    assert hello is None or not hello.complete


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        HELLO[1:],
        b"\x17" + HELLO[1:],
        HELLO[:5] + b"\x02" + HELLO[6:],
        b"\x16\x03\x01\x00\x05hello",
        b"\x13BitTorrent protocol" + bytes(48),
    ],
    ids=["empty", "shifted", "data record", "server hello", "text", "handshake"],
)
def test_wrong_and_look_alike(stream: bytes) -> None:
    assert parse_client_hello(stream) is None


@given(st.binary(max_size=300), st.integers(0, len(HELLO)))
def test_any_bytes(tail: bytes, kept: int) -> None:
    parse_client_hello(HELLO[:kept] + tail)
