"""What is fuzzed: each target takes any bytes, and raises where the engine breaks a promise.

A target holds only for what it is called with: it keeps no state between two inputs, so that one
input alone shows a crash again.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from engine.compiler.database import Database
from engine.compiler.expression import HsExpression
from engine.compiler.ruleset import RuleSet
from engine.config import Settings
from engine.enforce.enforcement import Enforcement
from engine.enforce.machine import Machine
from engine.errors import InputError
from engine.fields import VOCABULARY, Context
from engine.fields.bencode import parse as parse_bencode
from engine.fields.dns import parse_message as parse_dns
from engine.fields.http import MAX_HEADERS
from engine.fields.http import parse_message as parse_http
from engine.fields.socks import udp_header_len
from engine.fields.tls import parse_client_hello
from engine.fields.utp import HEADER_B, parse_header
from engine.inspect.inspector import Inspector
from engine.inspect.judgement import ACCEPTED
from engine.inspect.oneway import OneWayFlows
from engine.inspect.packet import decode, reverse
from engine.inspect.preface import preface_of_proxy, preface_to_proxy
from engine.inspect.starts import MAX_ELSEWHERE, MAX_VERSIONS, Starts
from engine.inspect.stream import PREFIX_B, SEQUENCE_MASK, StreamStart
from engine.language.vocabulary import Type
from engine.paths import shipped_signatures
from engine.selftest import self_test
from engine.service.ban_requests import BanRequests
from engine.service.control import MAX_REQUEST_B, answer_to
from engine.service.events import Events
from engine.signatures import load
from engine.sources.capture import Capture
from engine.sources.linklayer import SKIP_REASONS, datagram, locator
from tests.captures import ip, tcp, udp
from tests.loading import loaded

Target = Callable[[bytes], None]

_LINK_TYPES = (0, 1, 9, 10, 12, 50, 51, 104, 105, 113, 127, 239, 276, 4711)
_MAX_FLOWS = 16


# --- packets


def linklayer(data: bytes) -> None:
    """The first byte chooses the link; the frame stands in the middle of other bytes."""
    if not data:
        return
    locate = locator(
        _LINK_TYPES[(data[0] >> 1) % len(_LINK_TYPES)], "big" if data[0] & 1 else "little"
    )
    frame = data[1:]
    found = datagram(locate, b"\x45" * 7 + frame + b"\x60" * 9, 7, 7 + len(frame))
    if isinstance(found, int):
        assert found in SKIP_REASONS
    else:
        assert found in frame


def packet(data: bytes) -> None:
    """An IP datagram."""
    decoded = decode(data)
    if decoded is None:
        return
    assert len(decoded.key) in (12, 36)
    assert reverse(reverse(decoded.key)) == decoded.key
    assert decoded.payload in data
    assert len(decoded.payload) <= decoded.payload_len
    assert str(decoded.source) != ""
    assert decoded.destination.port < 65536


def capture(data: bytes) -> None:
    """A capture file."""
    with open_memory(data) as path, contextlib.suppress(InputError):
        for _, found in Capture(path):
            decode(found)


@contextlib.contextmanager
def open_memory(data: bytes) -> Iterator[Path]:
    """A file in memory that has a path."""
    with os.fdopen(os.memfd_create("fuzz"), "w+b") as file:
        file.write(data)
        file.flush()
        yield Path(f"/proc/self/fd/{file.fileno()}")


# --- streams


def _segments(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Cut into a kind, a place and bytes: five bytes say how, and the last two how many follow."""
    at = 0
    while at + 5 <= len(data):
        kind, place = data[at], int.from_bytes(data[at + 1 : at + 3], "big")
        length = int.from_bytes(data[at + 3 : at + 5], "big") & 0x0FFF
        at += 5
        yield kind, place, data[at : at + length]
        at += length


def stream(data: bytes) -> None:
    """Segments of one stream: the first version of each byte stands, and nothing else is known."""
    made, model = StreamStart(SEQUENCE_MASK - 100), dict[int, int]()
    for _, place, payload in _segments(data):
        if made.complete:
            break
        offset = place % (2 * PREFIX_B) - PREFIX_B // 2
        made.add(made.first + offset & SEQUENCE_MASK, payload)
        for number, byte in enumerate(payload, offset):
            if 0 <= number < PREFIX_B:
                model.setdefault(number, byte)
    length = next(number for number in range(PREFIX_B + 1) if number not in model)
    assert made.prefix == bytes(model[number] for number in range(length))


def starts(data: bytes) -> None:
    """Segments, SYNs and acknowledgements of one side: nothing grows beyond its bound."""
    made = Starts(50, middle=2)
    for kind, place, payload in _segments(data):
        sequence = place * 3 - 4096 & SEQUENCE_MASK
        if kind & 7 == 1:
            made.may_begin(sequence)
        elif kind & 7 == 2:
            made.begins(sequence)
        elif payload and made.tells(sequence, payload, 0):
            for changed in made.take(sequence, payload, len(payload) + (kind >> 7)):
                assert changed.prefix
            made.settle()
        assert len(made.others) <= MAX_ELSEWHERE + MAX_VERSIONS
        for start in (made, *made.others):
            assert len(start.prefix) + start._waits.bit_count() // 8 <= PREFIX_B


# --- what a payload is


def bencode(data: bytes) -> None:
    found = parse_bencode(data)
    if found is not None:
        assert data[found.end - 1 : found.end] == b"e"
        assert found.text(b"a", b"id") is None or isinstance(found.text(b"a", b"id"), bytes)
        assert found.error_code is None or isinstance(found.error_code, int)


def utp(data: bytes) -> None:
    header = parse_header(data)
    assert header is None or HEADER_B <= header.extensions_end <= len(data)


def http(data: bytes) -> None:
    found = parse_http(data)
    if found is not None:
        assert len(found.headers) <= MAX_HEADERS
        assert (found.method is None) == (found.target is None) != (found.status is None)


def tls(data: bytes) -> None:
    found = parse_client_hello(data)
    if found is not None:
        assert found.sni is None or found.sni in data.lower()
        assert found.version >> 8 == 3


def dns(data: bytes) -> None:
    found = parse_dns(data)
    assert found is None or len(found.name) < len(data)


def socks(data: bytes) -> None:
    """The header before a datagram, and what is said to a proxy and by one before a stream."""
    assert 0 <= udp_header_len(data) <= len(data)
    assert 0 <= preface_to_proxy(data) <= len(data)
    assert 0 <= preface_of_proxy(data) <= len(data)


def fields(data: bytes) -> None:
    """Every field of a view: where it is known, the expression that it is triggered by matches."""
    for field in VOCABULARY.values():
        if field.implied is None:
            continue
        context = Context(data)
        names = ((b"host",), (b"User-Agent",)) if field.parameters else ((),)
        assert all(kind is Type.TEXT for _, kind in field.parameters)
        if any(field.read(context, *arguments) is not None for arguments in names):
            assert _database(field.implied.regex).scan(data), field.name


@cache
def _database(regex: str) -> Database:
    return Database([HsExpression(regex)])


# --- the Inspector


@cache
def _shipped() -> RuleSet:
    """All that is shipped, the least certain as well."""
    return load(shipped_signatures(), profile="strict", enable_all=True)


def inspector(data: bytes) -> None:
    """Datagrams with any bytes: the short way through and the long one come to the same."""
    ruleset = _shipped()
    short, general = (Inspector(ruleset, max_flows=_MAX_FLOWS) for _ in range(2))
    one_way = OneWayFlows()
    for number, (_, _, found) in enumerate(_segments(data)):
        judgement = short.inspect(found, number)
        decoded = decode(found)
        assert judgement == (ACCEPTED if decoded is None else general.judge(decoded, number))
        assert short.flows == general.flows <= 4 * _MAX_FLOWS
        one_way.note(judgement.detections)
        one_way.answered(found)


def conversation(data: bytes) -> None:
    """Payloads between two hosts, so that the protocols behind the headers are reached at once."""
    ruleset = _shipped()
    short, general = (Inspector(ruleset, max_flows=_MAX_FLOWS) for _ in range(2))
    for number, (kind, place, payload) in enumerate(_segments(data)):
        datagram_ = _between_two(kind, place, payload)
        decoded = decode(datagram_)
        assert decoded is not None
        assert decoded.payload == payload
        assert short.inspect(datagram_, number) == general.judge(decoded, number)


def _between_two(kind: int, place: int, payload: bytes) -> bytes:
    ends = ("2001:db8::1", "2001:db8::2") if kind & 1 else ("192.0.2.1", "192.0.2.2")
    ports = (1000, 2000)
    if kind & 2:
        ends, ports = ends[::-1], ports[::-1]
    (source, destination), (sport, dport) = ends, ports
    if kind & 4:
        made = udp(source, sport, destination, dport, payload)
    else:
        made = tcp(source, sport, destination, dport, payload, place)
        if kind & 8:  # SYN, and perhaps ACK
            flags = len(made) - len(payload) - 7
            made = made[:flags] + bytes([2 | kind & 16]) + made[flags + 1 :]
    return ip(source, destination, 4 if len(ends[0]) < 10 else 41, made) if kind & 64 else made


# --- what authors write


def loader(data: bytes) -> None:
    """A signature file: its diagnostics, or a RuleSet whose tests can be run."""
    found = loaded(data)
    if isinstance(found, RuleSet):
        self_test(found)
    else:
        assert "error[S" in found


_DOCUMENT = """\
id: fuzz.made
title: Made up
scope: {transport: tcp}
patterns: |
  %s
when: |
  %s
then: {action: log}
tests:
  - {expect: match, payload: '"x"'}
  - {expect: no match, payload: '"y"'}
"""


def condition(data: bytes) -> None:
    """A condition, and patterns before it, in an otherwise good signature."""
    patterns, _, when = data.decode("utf-8", "replace").rpartition("\x1e")
    text = _DOCUMENT % tuple(part.replace("\n", "\n  ") for part in (patterns or '$a = "x"', when))
    loader(text.encode("utf-8", "replace"))


# --- who asks


class _Nobody:
    """Drops no packets."""

    def ban(self, target: bytes, expires_ns: int, /) -> None: ...

    def unban(self, target: bytes, /) -> None: ...

    def allow_only(self, networks: Any, /) -> None: ...


def control(data: bytes) -> None:
    """What root's client says: it gets one line of JSON, an error or what it asked for."""
    settings = Settings(state_directory=None)
    events = Events(settings)
    enforcement = Enforcement(settings, Machine(), _Nobody())
    handlers = BanRequests(enforcement, events).handlers

    def handle(request: dict[str, Any]) -> Any:
        handler = handlers.get(str(request.get("command")))
        if handler is None:
            raise InputError("unknown command")
        answer = handler(request)
        return answer() if callable(answer) else answer

    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(data[:MAX_REQUEST_B])
        ours.shutdown(socket.SHUT_WR)
        with theirs.makefile("rb") as file:
            assert isinstance(json.loads(json.dumps(answer_to(file, handle))), dict)


TARGETS: dict[str, Target] = {
    target.__name__: target
    for target in (
        *(linklayer, packet, capture, stream, starts),
        *(bencode, utp, http, tls, dns, socks, fields),
        *(inspector, conversation, loader, condition, control),
    )
}
