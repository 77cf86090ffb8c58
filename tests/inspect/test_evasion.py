"""Every shipped signature still fires when its bytes come in other ways.

What must match are the payloads of the signatures' own tests, so that a new signature is
tried as well. Each is alone in its RuleSet, only logs, and knows no threshold.
"""

from __future__ import annotations

import itertools
import random
import struct
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from engine.compiler.ruleset import RuleSet
from engine.inspect.inspector import Inspector
from engine.inspect.packet import ACK, SYN
from engine.language.document import Signature
from engine.language.form import Then
from engine.paths import shipped_signatures
from engine.signatures import load
from engine.sources.capture import Capture
from tests.captures import ADDRESSES, ethernet, ip, pcap, udp
from tests.inspect.datagrams import extension, gre, with_options

A, B = "192.0.2.1", "192.0.2.2"
A6, B6 = "2001:db8::1", "2001:db8::2"
RST, FIN = 0x04, 0x01
FIRST = 1000
PORTS = [443, 80, 53, 22, 25, 123, 1]

SHIPPED = load(shipped_signatures())


def examples(transport: str, inspect: str) -> list[tuple[Signature, bytes]]:
    """What must match, of each enabled signature for one kind of buffer."""
    return [
        (signature, test.payload)
        for signature in SHIPPED.signatures
        if (signature.transport, signature.inspect) == (transport, inspect)
        for test in signature.tests
        if test.must_match and not test.turns
    ]


def each(found: Iterable[tuple[Signature, bytes]]) -> pytest.MarkDecorator:
    counted: dict[str, itertools.count[int]] = {}
    parameters = [
        pytest.param(s, p, id=f"{s.id}-{next(counted.setdefault(s.id, itertools.count()))}")
        for s, p in found
    ]
    return pytest.mark.parametrize(("signature", "payload"), parameters)


STREAMS = each(examples("tcp", "stream"))
DATAGRAMS = each(examples("udp", "packet"))
SEGMENTS = each(examples("tcp", "middle"))


@cache
def alone(name: str) -> RuleSet:
    (signature,) = (s for s in SHIPPED.signatures if s.id == name)
    return RuleSet([replace(signature, then=Then(action="log"))], lists=SHIPPED.lists)


def fires(signature: Signature, packets: Iterable[bytes]) -> bool:
    """Whether any of some IP packets is detected."""
    inspector = Inspector(alone(signature.id))
    return any(inspector.inspect(packet, 0).detections for packet in packets)


def segment(
    payload: bytes,
    sequence: int,
    flags: int = ACK,
    ports: tuple[int, int] = (50000, 1),
    acknowledgement: int = 0,
    *,
    back: bool = False,
) -> bytes:
    sport, dport = reversed(ports) if back else ports
    source, destination = (B, A) if back else (A, B)
    fields = sport, dport, sequence % 2**32, acknowledgement % 2**32, 0x50, flags, 9, 0, 0
    return ip(source, destination, 6, struct.pack(">HHIIBBHHH", *fields) + payload)


def handshake(ports: tuple[int, int] = (50000, 1), first: int = FIRST) -> list[bytes]:
    return [
        segment(b"", first - 1, SYN, ports),
        segment(b"", 4999, SYN | ACK, ports, first, back=True),
    ]


def connection(
    pieces: Iterable[tuple[int, bytes]], ports: tuple[int, int] = (50000, 1), first: int = FIRST
) -> Iterator[bytes]:
    """A TCP connection whose client sends some pieces, by their offset."""
    yield from handshake(ports, first)
    for offset, data in pieces:
        yield segment(data, first + offset, ACK, ports)


def cut(payload: bytes, size: int) -> list[tuple[int, bytes]]:
    return [(i, payload[i : i + size]) for i in range(0, len(payload), size)]


# --- TCP


@STREAMS
def test_in_one_piece_and_from_any_sequence_number(signature: Signature, payload: bytes) -> None:
    for first in (0, 1, 2**31, 2**32 - 1, 2**32 - 20):
        assert fires(signature, connection([(0, payload)], first=first))


@STREAMS
@pytest.mark.parametrize("size", [1, 2, 3, 7, 19, 536])
def test_in_small_segments(signature: Signature, payload: bytes, size: int) -> None:
    assert fires(signature, connection(cut(payload, size)))


@STREAMS
def test_split_anywhere(signature: Signature, payload: bytes) -> None:
    for at in range(1, len(payload)):
        assert fires(signature, connection([(0, payload[:at]), (at, payload[at:])]))


@STREAMS
@pytest.mark.parametrize("size", [1, 5, 40])
@pytest.mark.parametrize("seed", [None, 1, 2])
def test_in_any_order(signature: Signature, payload: bytes, size: int, seed: int | None) -> None:
    pieces = cut(payload, size)
    if seed is None:
        pieces.reverse()
    else:
        random.Random(seed).shuffle(pieces)
    assert fires(signature, connection(pieces))


@STREAMS
@pytest.mark.parametrize("size", [1, 5, 40])
def test_with_duplicates_and_overlaps(signature: Signature, payload: bytes, size: int) -> None:
    pieces = cut(payload, size)
    overlapping = [
        (max(0, i - 3), payload[max(0, i - 3) : i + size + 4]) for i in range(0, len(payload), size)
    ]
    random.Random(3).shuffle(overlapping)
    for ways in (
        [piece for piece in pieces for _ in range(2)],
        [*pieces[1:], *pieces],
        overlapping,
        [*overlapping, *pieces],
    ):
        assert fires(signature, connection(ways))


@STREAMS
@pytest.mark.parametrize("size", [9, 100_000])
def test_with_other_versions_of_the_same_bytes(
    signature: Signature, payload: bytes, size: int
) -> None:
    lie = bytes(byte ^ 0x55 for byte in payload)
    true = cut(payload, size)
    assert fires(signature, connection([(0, lie), *true]))
    assert fires(signature, connection([*true, (0, lie)]))
    assert fires(signature, connection([true[0], (0, lie), *true[1:]]))
    assert fires(signature, connection([(0, bytes(4000)), *true]))


@STREAMS
@pytest.mark.parametrize("flags", [SYN, SYN | ACK, RST, RST | ACK, FIN | ACK])
@pytest.mark.parametrize("sequence", [0, FIRST - 10, FIRST + 5, FIRST + 2**31])
def test_with_forged_segments_before_and_between(
    signature: Signature, payload: bytes, flags: int, sequence: int
) -> None:
    lie = segment(b"", sequence, flags)
    half = len(payload) // 2
    data = [segment(payload[:half], FIRST), segment(payload[half:], FIRST + half)]
    syn, answer = handshake()
    assert fires(signature, [lie, syn, answer, *data])
    assert fires(signature, [syn, lie, answer, *data])
    assert fires(signature, [syn, answer, lie, *data])
    assert fires(signature, [syn, answer, data[0], lie, data[1]])
    assert fires(signature, [lie, syn, *data])


@STREAMS
def test_in_data_on_the_syn_and_without_one(signature: Signature, payload: bytes) -> None:
    half = len(payload) // 2
    opening = segment(payload[:half], FIRST - 1, SYN)
    assert fires(signature, [opening, segment(payload[half:], FIRST + half)])
    assert fires(signature, [segment(payload, FIRST)])


@STREAMS
@pytest.mark.parametrize("port", PORTS)
def test_on_any_port(signature: Signature, payload: bytes, port: int) -> None:
    for ports in ((50000, port), (port, 50000), (port, port)):
        assert fires(signature, connection([(0, payload)], ports))
        back = [segment(payload, 5000, ACK, ports, back=True)]
        assert fires(signature, [*handshake(ports), *back])


@SEGMENTS
@pytest.mark.parametrize("port", PORTS)
def test_in_the_middle_on_any_port(signature: Signature, payload: bytes, port: int) -> None:
    for ports in ((50000, port), (port, 50000)):
        for back in (False, True):
            before = segment(b"anything", 77, ACK, ports, back=back)
            assert fires(signature, [before, segment(payload, 85, ACK, ports, back=back)])


# --- UDP


def wrapped(payload: bytes, ports: tuple[int, int] = (50000, 1)) -> Iterator[bytes]:
    """A datagram in every header and tunnel that is looked behind."""
    four, six = udp(A, ports[0], B, ports[1], payload), udp(A6, ports[0], B6, ports[1], payload)
    yield four
    yield six
    yield from (with_options(four, words) for words in (1, 5, 10))
    for kinds in ([0], [60], [0, 43, 60], [51], [44], [60] * 12, [0, 60, 43, 44, 51, 135, 60]):
        body, following = six[40:], 17
        for kind in reversed(kinds):
            body, following = extension(kind, following, 1) + body, kind
        yield ip(A6, B6, following, body)
    for inner, number, kind in ((four, 4, 0x0800), (six, 41, 0x86DD)):
        for ends in ((A, B), (A6, B6)):
            yield ip(*ends, number, inner)
            yield ip(*ends, number, with_options(inner, 2)) if inner is four else inner
            for flags in (0, 0x80, 0x20, 0x10, 0xB0):
                yield ip(*ends, 47, gre(kind, flags) + inner)
    yield ip(A, B, 47, gre(0x0800, 0) + ip(A, B, 4, four))


@DATAGRAMS
def test_behind_options_extensions_and_in_tunnels(signature: Signature, payload: bytes) -> None:
    for packet in wrapped(payload):
        assert fires(signature, [packet])


@DATAGRAMS
def test_through_a_socks_proxy(signature: Signature, payload: bytes) -> None:
    for address in (b"\x01" + bytes(4), b"\x03\x04peer", b"\x04" + bytes(16)):
        header = b"\0\0\0" + address + b"\x1a\xe1"
        assert fires(signature, [udp(A, 5, B, 1080, header + payload)])


@DATAGRAMS
@pytest.mark.parametrize("port", PORTS)
def test_datagrams_on_any_port(signature: Signature, payload: bytes, port: int) -> None:
    for ports in ((50000, port), (port, 50000), (port, port)):
        assert fires(signature, [udp(A, ports[0], B, ports[1], payload)])
        assert fires(signature, [udp(B6, ports[1], A6, ports[0], payload)])


@pytest.mark.parametrize("tags", [[0x8100], [0x88A8, 0x8100]])
def test_behind_vlan_tags_in_a_capture(tags: list[int], tmp_path: Path) -> None:
    for signature, payload in examples("udp", "packet"):
        plain = ethernet(udp(A, 5, B, 443, payload))
        tagged = b"".join(tag.to_bytes(2, "big") + b"\0\7" for tag in tags)
        path = tmp_path / "tagged.pcap"
        path.write_bytes(pcap([ADDRESSES + tagged + plain[12:]]))
        assert fires(signature, [datagram for _, datagram in Capture(path)])
