"""Text about BitTorrent is not BitTorrent: pages, mail, chat, packages, logs."""

from __future__ import annotations

import itertools
from urllib.parse import quote_from_bytes

import pytest

from engine.inspect.inspector import Inspector
from engine.paths import shipped_signatures
from engine.signatures import load
from tests.inspect.flows import Connection, datagram

SHIPPED = load(shipped_signatures())

HASH = b"0123456789abcdef0123456789abcdef01234567"
QUOTES = {
    "handshake": b"\x13BitTorrent protocol" + bytes(8) + b"A" * 20 + b"-TR4050-abcdefghijkl",
    "announce": b"GET /announce?info_hash=%124Vx%9A%BC%DE%F1%23Eg%89%AB%CD%EF%124Vx%9A"
    b"&peer_id=-TR3000-abcdefghijkl&port=51413&uploaded=0 HTTP/1.1\r\nHost: t.example\r\n\r\n",
    "scrape": b"GET /scrape?info_hash=aaaaaaaaaaaaaaaaaaaa HTTP/1.1\r\n\r\n",
    "magnet": b"magnet:?xt=urn:btih:" + HASH + b"&dn=debian&tr=udp%3A%2F%2Ft.example%3A6969",
    "torrent file": b"d8:announce32:http://tracker.example/announce4:infod6:lengthi5e"
    b"4:name5:a.txt12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaaee",
    "DHT": b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz123456e"
    b"1:q9:get_peers1:t2:aa1:y1:qe",
    "DHT reply": b"d1:rd2:id20:abcdefghij0123456789e1:t2:aa1:y1:re",
    "LSD": b"BT-SEARCH * HTTP/1.1\r\nHost: 239.192.152.143:6771\r\nPort: 6881\r\nInfohash: "
    + HASH
    + b"\r\n\r\n\r\n",
    "request": b"\0\0\0\x0d\x06\0\0\0\1\0\0\x40\0\0\0\x40\0",
    "extension": b"\0\0\0\x41\x14\0d1:md11:ut_metadatai3e6:ut_pexi1ee13:metadata_sizei9ee",
    "UDP tracker": bytes.fromhex("000004172710198000000000deadbeef"),
}
# How a conversation begins (client's words, server's), and which side quotes.
CARRIERS = {
    "page": (
        b"GET /wiki/BitTorrent HTTP/1.1\r\nHost: wiki.example\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html><pre>The handshake is ",
        False,
    ),
    "form": (
        b"POST /paste HTTP/1.1\r\nHost: p.example\r\nContent-Length: 900\r\n\r\ntext=see ",
        b"",
        True,
    ),
    "mail sent": (
        b"EHLO me.example\r\nMAIL FROM:<a@me.example>\r\nRCPT TO:<b@you.example>\r\nDATA\r\n"
        b"Subject: the protocol\r\n\r\nHi,\r\n",
        b"220 you.example ESMTP\r\n250 ok\r\n250 ok\r\n250 ok\r\n354 go on\r\n",
        True,
    ),
    "mail read": (
        b"a1 LOGIN me secret\r\na2 FETCH 7 BODY[]\r\n",
        b"* OK ready\r\na1 OK\r\n* 7 FETCH (BODY[] {900}\r\nSubject: torrents\r\n\r\nFwd: ",
        False,
    ),
    "chat": (b"NICK a\r\nUSER a 0 * :a\r\nJOIN #linux\r\nPRIVMSG #linux :try ", b"", True),
    "chat read": (
        b"NICK b\r\nUSER b 0 * :b\r\n",
        b":irc.example 001 b :Welcome\r\n:a!a@h PRIVMSG #linux :use ",
        False,
    ),
    "package": (
        b"GET /debian/dists/stable/main/Packages HTTP/1.1\r\nHost: deb.example\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\nPackage: transmission\r\n"
        b"Description: a BitTorrent client, which sends ",
        False,
    ),
    "code": (
        b"GET /src/peer.c HTTP/1.1\r\nHost: git.example\r\n\r\n",
        b'HTTP/1.1 200 OK\r\n\r\nstatic const char *hello = "',
        False,
    ),
    "database": (
        b"\x00\x00\x00\x0d\x00\x03\x00\x00user\x00a\x00\x00"
        b"Q\x00\x00\x01\x00INSERT INTO t VALUES ('",
        b"R\x00\x00\x00\x08\x00\x00\x00\x00",
        True,
    ),
}
carriers = pytest.mark.parametrize("carrier", CARRIERS.values(), ids=CARRIERS)
quotes = pytest.mark.parametrize("quote", QUOTES.values(), ids=QUOTES)


def told(carrier: tuple[bytes, bytes, bool], *pieces: bytes) -> list[str]:
    """What is detected when one side goes on with some segments."""
    client, server, by_client = carrier
    connection = Connection(Inspector(SHIPPED))
    offsets = {True: len(client), False: len(server)}
    found = [*connection.send(True, 0, client), *connection.send(False, 0, server)]
    for piece in pieces:
        found += connection.send(by_client, offsets[by_client], piece)
        offsets[by_client] += len(piece)
    return found


@carriers
@quotes
def test_a_quotation_is_none(carrier: tuple[bytes, bytes, bool], quote: bytes) -> None:
    assert told(carrier, quote) == []
    assert told(carrier, b" or, as it is said: " + quote + b", and so on\r\n") == []


@carriers
@quotes
def test_nor_where_a_segment_begins_with_it(
    carrier: tuple[bytes, bytes, bool], quote: bytes
) -> None:
    assert told(carrier, b"x" * 5000, quote) == []
    assert told(carrier, *(quote[i : i + 1] for i in range(len(quote)))) == []


@carriers
def test_all_of_it_on_one_page(carrier: tuple[bytes, bytes, bool]) -> None:
    assert told(carrier, b"\r\n".join(QUOTES.values())) == []


@quotes
def test_nor_in_a_url(quote: bytes) -> None:
    request = b"GET /search?q=" + quote_from_bytes(quote).encode() + b" HTTP/1.1\r\nHost: s\r\n\r\n"
    assert told((request, b"HTTP/1.1 200 OK\r\n\r\n", True), request, request) == []


PREFIXES = [
    b"<30>1 2024-05-01T10:00:00Z host app - - - ",
    b"\x00\x07\x00\x00",
    b"\x80\x60\x12\x34\x00\x00\x00\x01\x00\x00\x00\x02",
    b"PRIVMSG #linux :",
    b'{"message": "',
]


@pytest.mark.parametrize(
    ("prefix", "quote"),
    list(itertools.product(PREFIXES, QUOTES.values())),
)
def test_nor_in_a_datagram(prefix: bytes, quote: bytes) -> None:
    inspector = Inspector(SHIPPED)
    assert inspector.judge(datagram(prefix + quote), 0).detections == ()
