"""The fields and functions of the language, each with its type, its words and its reader."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from operator import attrgetter
from typing import Any

from engine.fields import bencode, dns, http, tls, utp
from engine.fields.context import Context
from engine.fields.flow import flow_fields
from engine.fields.reads import READS
from engine.language.vocabulary import EVERY_INSPECT, Field, Type, Vocabulary

_UDP = frozenset({"udp"})


def _of_payload(read: Callable[..., Any]) -> Callable[..., Any]:
    return lambda context, *where: read(context.payload, *where)


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
        yield Field(
            name,
            Type.TEXT,
            doc,
            _bencode_text(*path),
            implied=bencode.implied(*path),
            quoted="exact",
        )
    yield Field(
        "bencode.e",
        Type.NUMBER,
        "A KRPC error's code (BEP 5).",
        _attribute(bencode.parse, "error_code"),
        implied=bencode.ERROR_IMPLIED,
    )
    yield Field(
        "bencode.end",
        Type.NUMBER,
        "The offset after the bencoded dictionary that the payload begins with.",
        _attribute(bencode.parse, "end"),
        implied=bencode.implied(),
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
            implied=utp.IMPLIED,
        )


def _http_fields() -> Iterator[Field]:
    for name, doc in (
        ("method", "The method of an HTTP/1 request."),
        ("target", "Path and query of an HTTP/1 request, as sent."),
        ("path", "The path of an HTTP/1 request, up to its question mark."),
        ("query", "The query of an HTTP/1 request, after its question mark."),
        ("host", "The Host header in lower case, without a port."),
    ):
        yield Field(
            f"http.{name}",
            Type.TEXT,
            doc,
            _attribute(http.parse_message, name),
            implied=http.MESSAGE_IMPLIED if name == "host" else http.REQUEST_IMPLIED,
            quoted="nocase" if name == "host" else "exact",
        )
    yield Field(
        "http.status",
        Type.NUMBER,
        "The status of an HTTP/1 response.",
        _attribute(http.parse_message, "status"),
        implied=http.STATUS_IMPLIED,
    )

    yield Field(
        "http.complete",
        Type.TRUTH,
        "Whether all headers of an HTTP/1 message have arrived.",
        _attribute(http.parse_message, "complete"),
        implied=http.MESSAGE_IMPLIED,
    )

    def header(context: Context, name: bytes) -> bytes | None:
        message: http.HttpMessage | None = context.view(http.parse_message)
        return None if message is None else message.headers.get(name.lower())

    yield Field(
        "http.user_agent",
        Type.TEXT,
        "The User-Agent header.",
        lambda context: header(context, b"user-agent"),
        implied=http.MESSAGE_IMPLIED,
        quoted="exact",
    )
    yield Field(
        "http.header",
        Type.TEXT,
        "The header of this name, in any case; the first where there are several.",
        header,
        (("name", Type.TEXT),),
        implied=http.MESSAGE_IMPLIED,
        quoted="exact",
    )


def _tls_fields() -> Iterator[Field]:
    for name, kind, doc in (
        ("sni", Type.TEXT, "The server name of a TLS ClientHello, in lower case (RFC 6066)."),
        ("alpn", Type.TEXT, "The first protocol a TLS ClientHello offers (RFC 7301)."),
        ("version", Type.NUMBER, "The legacy version of a TLS ClientHello: 0x0303 for 1.2, 1.3."),
        ("complete", Type.TRUTH, "Whether all of a TLS ClientHello has arrived."),
    ):
        yield Field(
            f"tls.{name}",
            kind,
            doc,
            _attribute(tls.parse_client_hello, name),
            implied=tls.IMPLIED,
        )


def _dns_fields() -> Iterator[Field]:
    for name, attribute, kind, doc in (
        ("query", "name", Type.TEXT, "The name a DNS message asks for, in lower case."),
        ("type", "type", Type.NUMBER, "The type a DNS message asks for: 1 A, 28 AAAA ..."),
        ("response", "response", Type.TRUTH, "Whether a DNS message is an answer."),
    ):
        yield Field(
            f"dns.{name}",
            kind,
            doc,
            _attribute(dns.parse_message, attribute),
            transports=_UDP,
            implied=dns.IMPLIED,
            spell=dns.spell_name if name == "query" else None,
            follows=name == "query",
        )


def _endpoint_fields() -> Iterator[Field]:
    def address(packed: bytes) -> IPv4Address | IPv6Address:
        return ip_address(packed)

    reads: tuple[tuple[str, Type, str, Callable[[Context], Any]], ...] = (
        ("src.ip", Type.ADDRESS, "Who sent it.", lambda c: address(c.source)),
        ("dst.ip", Type.ADDRESS, "Whom it is for.", lambda c: address(c.destination)),
        ("src.port", Type.NUMBER, "The port it came from.", lambda c: c.source_port),
        ("dst.port", Type.NUMBER, "The port it goes to.", lambda c: c.destination_port),
    )
    for name, kind, doc, read in reads:
        yield Field(name, kind, doc, read, certain=True, inspects=EVERY_INSPECT)


def _registry() -> Iterator[Field]:
    yield Field(
        "size",
        Type.NUMBER,
        "The bytes under inspection: a datagram's payload, or the start of a stream so far.",
        lambda context: len(context.payload),
        certain=True,
    )
    for read in READS:
        doc, reader = read.doc.format(""), _of_payload(read.read)
        yield Field(read.name, read.type, doc, reader, read.parameters)
    yield Field(
        "length",
        Type.NUMBER,
        "How many bytes a text has.",
        lambda _context, text: len(text),
        (("text", Type.TEXT),),
        certain=True,
        inspects=EVERY_INSPECT,
    )
    yield from _endpoint_fields()
    yield from flow_fields()
    yield from _bencode_fields()
    yield from _utp_fields()
    yield from _http_fields()
    yield from _tls_fields()
    yield from _dns_fields()


VOCABULARY: Vocabulary = {field.name: field for field in _registry()}
