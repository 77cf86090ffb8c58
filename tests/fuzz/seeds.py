"""What fuzzing begins with: the signatures' own tests, the shipped files, and what was found.

`corpus/TARGET/` holds inputs that once broke something, and a few by hand; all others are made
here from what the project has anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import yaml

from engine.paths import shipped_signatures
from engine.signatures import load
from tests.captures import enhanced, ethernet, interface, pcap, section, tcp, udp
from tests.loading import ONE, SHIPPED

CORPUS = Path(__file__).with_name("corpus")
_ENDS = (("192.0.2.1", 1000, "192.0.2.2", 2000), ("2001:db8::1", 1000, "2001:db8::2", 2000))


def kept(target: str) -> list[Path]:
    """The files of a target's corpus."""
    return sorted((CORPUS / target).glob("*"))


def seeds(target: str) -> Iterator[bytes]:
    """What a target is begun with."""
    yield from (path.read_bytes() for path in kept(target))
    yield from _MADE.get(target, _payloads)()


@cache
def _payloads() -> tuple[bytes, ...]:
    """Each payload of the shipped signatures' tests, once."""
    shipped = load(shipped_signatures(), profile="strict").signatures
    tests = [test for signature in shipped for test in signature.tests]
    packets = [packet for test in tests for turn in test.turns for packet in turn]
    return tuple(dict.fromkeys([*(test.payload for test in tests), *packets]))


def _datagrams() -> list[bytes]:
    return [
        make(*ends, payload) for payload in _payloads() for ends in _ENDS for make in (udp, tcp)
    ]


def _frames() -> list[bytes]:
    # The first byte says Ethernet, and little-endian.
    return [b"\2" + ethernet(datagram) for datagram in _datagrams()]


def _captures() -> list[bytes]:
    frames = [ethernet(datagram) for datagram in _datagrams()[:4]]
    blocks = section() + interface() + b"".join(map(enhanced, frames))
    return [pcap(frames), pcap(frames, order=">", nanoseconds=True), blocks]


def _cut(pieces: list[tuple[int, int, bytes]]) -> bytes:
    """As `targets._segments` reads them."""
    return b"".join(
        bytes([kind]) + place.to_bytes(2, "big") + len(data).to_bytes(2, "big") + data
        for kind, place, data in pieces
    )


def _streams() -> list[bytes]:
    half = 1024
    return [
        _cut(
            [(0, half + len(data) // 2, data[len(data) // 2 :]), (0, half, data[: len(data) // 2])]
        )
        for data in _payloads()
    ]


def _inspected() -> list[bytes]:
    return [_cut([(0, 0, datagram)]) for datagram in _datagrams()]


def _conversations() -> list[bytes]:
    return [
        _cut([(8, 0, b""), (26, 0, b""), (kind, 1, data), (kind | 2, 2, data)])
        for data in _payloads()
        for kind in (0, 4)
    ]


def _documents() -> list[bytes]:
    return [ONE.encode(), *SHIPPED]


def _conditions() -> list[bytes]:
    documents = [document for data in SHIPPED for document in yaml.safe_load_all(data)]
    made = '$a = "x" nocase\n$b = { 01 4? ?? [2-4] ( 41 | 42 43 ) }\n$c = /a{2,3}[^b]/'
    return [
        f"{made}\x1e2 of them and count($a in 0..9) < 3 or known(http.host)".encode(),
        *(f"{found.get('patterns', '')}\x1e{found['when']}".encode() for found in documents),
    ]


def _requests() -> list[bytes]:
    return [
        b'{"command": "ban", "bans": [{"address": "192.0.2.1", "duration_s": 60}]}\n',
        b'{"command": "unban", "addresses": ["192.0.2.1:80"]}\n',
        b'{"command": "allow", "networks": ["2001:db8::/32"]}\n',
        b'{"command": "disallow", "networks": ["10.0.0.0/8"]}\n',
        b'{"command": "bans"}\n',
    ]


_MADE: dict[str, Callable[[], list[bytes] | tuple[bytes, ...]]] = {
    "linklayer": _frames,
    "packet": _datagrams,
    "capture": _captures,
    "stream": _streams,
    "starts": _streams,
    "inspector": _inspected,
    "conversation": _conversations,
    "loader": _documents,
    "condition": _conditions,
    "control": _requests,
}
