"""The fields and functions of the language, each with its type, its words and its reader."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from operator import attrgetter
from typing import Any

from engine.fields import bencode, dns, http, tls, utp
from engine.fields.context import Context
from engine.language.vocabulary import Field, Type, Vocabulary

_OFFSET = (("offset", Type.NUMBER),)
_STRETCH = (("offset", Type.NUMBER), ("length", Type.NUMBER))
_UDP = frozenset({"udp"})
_PRINTABLE = frozenset(range(0x20, 0x7F)) | frozenset(b"\t\r\n")


def _stretch(context: Context, offset: int, length: int) -> bytes | None:
    """`length` bytes from `offset`, None where they do not all exist."""
    if offset < 0 or length < 1 or offset + length > len(context.payload):
        return None
    return context.payload[offset : offset + length]


def _entropy(context: Context, offset: int, length: int) -> float | None:
    data = _stretch(context, offset, length)
    if data is None:
        return None
    return -sum(n / length * math.log2(n / length) for n in Counter(data).values())


def _printable(context: Context, offset: int, length: int) -> float | None:
    data = _stretch(context, offset, length)
    return None if data is None else sum(byte in _PRINTABLE for byte in data) / length


def _integers() -> Iterator[Field]:
    for bits in (8, 16, 32, 64):
        for suffix, order in (("", "big"), ("le", "little")):
            if bits == 8 and suffix:
                continue
            yield Field(
                f"u{bits}{suffix}",
                Type.NUMBER,
                f"The unsigned {bits}-bit integer at an offset"
                + ("." if bits == 8 else f", {order}-endian."),
                _integer_reader(bits // 8, order),
                _OFFSET,
            )


def _integer_reader(width: int, order: Any) -> Callable[[Context, int], int | None]:
    def read(context: Context, offset: int) -> int | None:
        data = _stretch(context, offset, width)
        return None if data is None else int.from_bytes(data, order)

    return read


def _attribute(parse: Callable[[bytes], Any], name: str) -> Callable[[Context], Any]:
    """A reader of one attribute of a protocol view."""
    get = attrgetter(name)

    def read(context: Context) -> Any:
        parsed = context.view(parse)
        return None if parsed is None else get(parsed)

    return read


def _bencode_text(*path: bytes) -> Callable[[Context], bytes | None]:
    def read(context: Context) -> bytes | None:
        dictionary: bencode.Dictionary | None = context.view(bencode.parse)
        return None if dictionary is None else dictionary.text(*path)

    return read


def _bencode_fields() -> Iterator[Field]:
    for name, path, doc in (
        ("bencode.y", (b"y",), "A KRPC message's kind: q, r or e (BEP 5)."),
        ("bencode.q", (b"q",), "A KRPC query's method (BEP 5)."),
        ("bencode.t", (b"t",), "A KRPC message's transaction id (BEP 5)."),
        ("bencode.v", (b"v",), "A KRPC message's client version (BEP 5)."),
        ("bencode.a.id", (b"a", b"id"), "The node id of a KRPC query (BEP 5)."),
        ("bencode.a.info_hash", (b"a", b"info_hash"), "The info hash of a KRPC query (BEP 5)."),
        ("bencode.a.target", (b"a", b"target"), "The target of a find_node query (BEP 5)."),
        ("bencode.r.id", (b"r", b"id"), "The node id of a KRPC reply (BEP 5)."),
    ):
        yield Field(name, Type.TEXT, doc, _bencode_text(*path))
    yield Field(
        "bencode.end",
        Type.NUMBER,
        "The offset after the bencoded dictionary that the payload begins with.",
        _attribute(bencode.parse, "end"),
    )


def _utp_fields() -> Iterator[Field]:
    for name, doc in (
        ("type", "0 data, 1 fin, 2 state, 3 reset, 4 syn"),
        ("connection_id", "the connection id"),
        ("wnd_size", "the receive window in bytes"),
        ("seq_nr", "the sequence number"),
        ("ack_nr", "the acknowledgement number"),
        ("extensions_end", "the offset of the first byte of data"),
    ):
        yield Field(
            f"utp.{name}",
            Type.NUMBER,
            f"Of a uTP header (BEP 29): {doc}.",
            _attribute(utp.parse_header, name),
            transports=_UDP,
        )


def _http_fields() -> Iterator[Field]:
    for name, kind, doc in (
        ("method", Type.TEXT, "The method of an HTTP/1 request."),
        ("target", Type.TEXT, "Path and query of an HTTP/1 request, as sent."),
        ("path", Type.TEXT, "The path of an HTTP/1 request, up to its question mark."),
        ("query", Type.TEXT, "The query of an HTTP/1 request, after its question mark."),
        ("host", Type.TEXT, "The Host header in lower case, without a port."),
        ("status", Type.NUMBER, "The status of an HTTP/1 response."),
    ):
        yield Field(f"http.{name}", kind, doc, _attribute(http.parse_message, name))

    def header(context: Context, name: bytes) -> bytes | None:
        message: http.HttpMessage | None = context.view(http.parse_message)
        return None if message is None else message.headers.get(name.lower())

    yield Field(
        "http.user_agent",
        Type.TEXT,
        "The User-Agent header.",
        lambda context: header(context, b"user-agent"),
    )
    yield Field(
        "http.header",
        Type.TEXT,
        "The header of this name, in any case; the first where there are several.",
        header,
        (("name", Type.TEXT),),
    )


def _tls_fields() -> Iterator[Field]:
    for name, kind, doc in (
        ("sni", Type.TEXT, "The server name of a TLS ClientHello, in lower case (RFC 6066)."),
        ("alpn", Type.TEXT, "The first protocol a TLS ClientHello offers (RFC 7301)."),
        ("version", Type.NUMBER, "The legacy version of a TLS ClientHello: 0x0303 for 1.2, 1.3."),
    ):
        yield Field(f"tls.{name}", kind, doc, _attribute(tls.parse_client_hello, name))


def _dns_fields() -> Iterator[Field]:
    for name, attribute, kind, doc in (
        ("query", "name", Type.TEXT, "The name a DNS message asks for, in lower case."),
        ("type", "type", Type.NUMBER, "The type a DNS message asks for: 1 A, 28 AAAA ..."),
        ("response", "response", Type.TRUTH, "Whether a DNS message is an answer."),
    ):
        yield Field(
            f"dns.{name}", kind, doc, _attribute(dns.parse_message, attribute), transports=_UDP
        )


def _endpoint_fields() -> Iterator[Field]:
    def address(packed: bytes) -> IPv4Address | IPv6Address:
        return ip_address(packed)

    yield Field("src.ip", Type.ADDRESS, "Who sent it.", lambda c: address(c.source), certain=True)
    yield Field(
        "dst.ip", Type.ADDRESS, "Whom it is for.", lambda c: address(c.destination), certain=True
    )
    yield Field(
        "src.port", Type.NUMBER, "The port it came from.", lambda c: c.source_port, certain=True
    )
    yield Field(
        "dst.port", Type.NUMBER, "The port it goes to.", lambda c: c.destination_port, certain=True
    )


def _registry() -> Iterator[Field]:
    yield Field(
        "size",
        Type.NUMBER,
        "The bytes under inspection: a datagram's payload, or the start of a stream so far.",
        lambda context: len(context.payload),
        certain=True,
    )
    yield from _integers()
    yield Field(
        "length",
        Type.NUMBER,
        "How many bytes a text has.",
        lambda _context, text: len(text),
        (("text", Type.TEXT),),
        certain=True,
    )
    yield Field(
        "entropy", Type.DECIMAL, "Shannon entropy in bits a byte, 0 to 8.", _entropy, _STRETCH
    )
    yield Field(
        "printable",
        Type.DECIMAL,
        "The share of printable ASCII bytes, 0 to 1.",
        _printable,
        _STRETCH,
    )
    yield from _endpoint_fields()
    yield Field(
        "flow.packets",
        Type.NUMBER,
        "Packets of this flow so far, both ways, this one included.",
        lambda context: context.flow_packets,
        certain=True,
    )
    yield from _bencode_fields()
    yield from _utp_fields()
    yield from _http_fields()
    yield from _tls_fields()
    yield from _dns_fields()


VOCABULARY: Vocabulary = {field.name: field for field in _registry()}
