"""What stands behind words to a proxy, and from one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.inspect.inspector import Inspector
from engine.inspect.preface import MAY_BE_PREFACES, preface_of_proxy, preface_to_proxy
from engine.paths import shipped_signatures
from engine.signatures import load
from tests.inspect.flows import BACK, THERE, Connection, datagram, following, told

SHIPPED = load(shipped_signatures())
HANDSHAKE = b"\x13BitTorrent protocol" + bytes(48)
DHT_PING = b"d1:ad2:id20:" + bytes(range(20)) + b"e1:q4:ping1:t2:aa1:y1:qe"

SOCKS_REQUEST = b"\x05\x01\x00\x01\x0a\x01\x02\x03\x1a\xe1"
TO_PROXY = {
    "SOCKS 5": [b"\x05\x01\x00", SOCKS_REQUEST],
    "SOCKS 5 with several methods": [b"\x05\x03\x00\x01\x02", SOCKS_REQUEST],
    "SOCKS 5 with a password": [b"\x05\x02\x00\x02", b"\x01\x04user\x06secret", SOCKS_REQUEST],
    "SOCKS 5 to a name": [b"\x05\x01\x00", b"\x05\x01\x00\x03\x09localhost\x1a\xe1"],
    "SOCKS 5 to IPv6": [b"\x05\x01\x00", b"\x05\x01\x00\x04" + bytes(15) + b"\x01\x1a\xe1"],
    "SOCKS 4": [b"\x04\x01\x1a\xe1\x0a\x01\x02\x03user\x00"],
    "SOCKS 4a": [b"\x04\x01\x1a\xe1\x00\x00\x00\x01user\x00peer.example\x00"],
    "CONNECT": [b"CONNECT 10.1.2.3:6881 HTTP/1.1\r\nHost: 10.1.2.3\r\n\r\n"],
    "CONNECT again, with a password": [
        b"CONNECT 10.1.2.3:6881 HTTP/1.1\r\n\r\n",
        b"CONNECT 10.1.2.3:6881 HTTP/1.1\r\nProxy-Authorization: Basic dTpw\r\n\r\n",
    ],
    "one proxy through another": [b"\x05\x01\x00", SOCKS_REQUEST, b"CONNECT a:1 HTTP/1.1\r\n\r\n"],
}
OF_PROXY = {
    "SOCKS 5": [b"\x05\x00", b"\x05\x00\x00\x01\x0a\x01\x02\x03\x1a\xe1"],
    "SOCKS 5 with a password": [b"\x05\x02", b"\x01\x00", b"\x05\x00\x00\x01" + bytes(6)],
    "SOCKS 5 from IPv6": [b"\x05\x00", b"\x05\x00\x00\x04" + bytes(18)],
    "SOCKS 4": [b"\x00\x5a" + bytes(6)],
    "CONNECT": [b"HTTP/1.1 200 Connection established\r\nVia: proxy\r\n\r\n"],
}


@pytest.mark.parametrize("words", TO_PROXY.values(), ids=TO_PROXY)
def test_the_words_to_a_proxy_are_measured(words: list[bytes]) -> None:
    whole = b"".join(words)
    assert preface_to_proxy(whole) == len(whole)
    assert preface_to_proxy(whole + HANDSHAKE) == len(whole)
    assert whole[0] in MAY_BE_PREFACES
    for end in range(8, len(words[0])):
        assert preface_to_proxy(whole[:end]) == end


@pytest.mark.parametrize("words", OF_PROXY.values(), ids=OF_PROXY)
def test_the_words_of_a_proxy_are_measured(words: list[bytes]) -> None:
    whole = b"".join(words)
    assert preface_of_proxy(whole + HANDSHAKE) == len(whole)
    assert whole[0] in MAY_BE_PREFACES


@pytest.mark.parametrize(
    "prefix",
    [
        b"",
        HANDSHAKE,
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x05\x00\x05\x01",
        b"\x05\x0a" + bytes(10),
        b"\x05\x01\x00hello",
        b"\x05\x01\x00\x05\x04\x00\x01" + bytes(6),
        b"\x05\x01\x00\x05\x01\x01\x01" + bytes(6),
        b"\x05\x01\x00\x05\x01\x00\x02" + bytes(6),
        b"\x04\x03" + bytes(20),
        b"\x04\x01\x1a\xe1\x0a\x01\x02\x03" + b"x" * 300,
        b"CONNECTION closed\r\n\r\n",
    ],
)
def test_anything_else_is_not_for_a_proxy(prefix: bytes) -> None:
    assert preface_to_proxy(prefix) == 0


@given(
    st.sampled_from([b"", b"\5", b"\4", b"\0\x5a", b"\5\1\0", b"CONNECT ", b"HTTP/1."]), st.binary()
)
def test_no_bytes_make_it_raise(start: bytes, data: bytes) -> None:
    for measure in (preface_to_proxy, preface_of_proxy):
        assert 0 <= measure(start + data) <= len(start + data)


def conversation(request: list[bytes], answer: list[bytes]) -> tuple[Connection, int, int]:
    """A connection through a proxy, and how much both sides have sent to get it."""
    connection = Connection(Inspector(SHIPPED))
    offsets = [0, 0]
    for number in range(max(len(request), len(answer))):
        for side, words in enumerate((request, answer)):
            if number < len(words):
                assert connection.send(side == 0, offsets[side], words[number]) == []
                offsets[side] += len(words[number])
    return connection, *offsets


PAIRS = [
    (TO_PROXY["SOCKS 5"], OF_PROXY["SOCKS 5"]),
    (TO_PROXY["SOCKS 5 with a password"], OF_PROXY["SOCKS 5 with a password"]),
    (TO_PROXY["SOCKS 4"], OF_PROXY["SOCKS 4"]),
    (TO_PROXY["CONNECT"], OF_PROXY["CONNECT"]),
]
PAIR = pytest.mark.parametrize(
    ("request_", "answer"), PAIRS, ids=["SOCKS 5", "password", "SOCKS 4", "CONNECT"]
)


@PAIR
@pytest.mark.parametrize("client", [True, False])
def test_a_handshake_through_a_proxy_is_found(
    request_: list[bytes], answer: list[bytes], client: bool
) -> None:
    connection, there, back = conversation(request_, answer)
    offset = there if client else back
    assert connection.send(client, offset, HANDSHAKE[:10]) == []
    assert "bittorrent.peer.handshake" in connection.send(client, offset + 10, HANDSHAKE[10:])


@PAIR
def test_turns_begin_behind_the_proxys_words(request_: list[bytes], answer: list[bytes]) -> None:
    connection = Connection(Inspector(following()))
    offsets = [0, 0]
    for number in range(max(len(request_), len(answer))):
        for side, words in enumerate((request_, answer)):
            if number < len(words):
                connection.send(side == 0, offsets[side], words[number])
                offsets[side] += len(words[number])
    connection.send(True, offsets[0], b"first")
    connection.send(False, offsets[1], b"second")
    connection.send(True, offsets[0] + 5, b"third")
    assert connection.turns is not None
    assert told(connection.turns) == [
        (True, 5, b"first"),
        (False, 6, b"second"),
        (True, 5, b"third"),
    ]


def test_the_body_of_an_answer_that_no_proxy_gives_is_no_start() -> None:
    connection = Connection(Inspector(SHIPPED))
    assert connection.send(True, 0, b"GET /capture HTTP/1.1\r\n\r\n") == []
    assert connection.send(False, 0, OF_PROXY["CONNECT"][0] + HANDSHAKE) == []


def test_who_was_called_asks_no_proxy() -> None:
    connection = Connection(Inspector(SHIPPED))
    assert connection.send(False, 0, TO_PROXY["CONNECT"][0] + HANDSHAKE) == []


@pytest.mark.parametrize("key", [THERE, BACK])
@pytest.mark.parametrize(
    "header", [b"\0\0\0\x01" + bytes(6), b"\0\0\0\x03\x01a\0\x01", b"\0\0\0\x04" + bytes(18)]
)
def test_a_datagram_through_a_proxy_is_inspected(header: bytes, key: bytes) -> None:
    inspector = Inspector(SHIPPED)
    assert not inspector.judge(datagram(header + b"hello", key), 0).detections
    (detection,) = inspector.judge(datagram(header + DHT_PING, key), 0).detections
    assert detection.signature == "bittorrent.dht.query"


def test_turns_of_datagrams_begin_behind_the_header() -> None:
    inspector = Inspector(following())
    inspector.ruleset = SHIPPED.with_banks(lambda bank: bank)
    inspector.ruleset.udp_flow = following().udp_flow
    inspector.judge(datagram(b"\0\0\0\x01" + bytes(6) + b"abc"), 0)
    turns = inspector._udp.side(THERE).flow.turns
    assert turns is not None
    assert (turns.size(0), turns.head(0)) == (3, b"abc")
