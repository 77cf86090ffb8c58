"""Writes captures of mixed conversations, as a gateway's line carries them.

Mostly web over TLS and QUIC, with names asked for, calls, plain HTTP, and some BitTorrent.
Packets of many conversations stand between each other.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

_OPEN = 300
_PER_FILE = 50_000
_PAUSE_US = 50
_MTU_PAYLOAD_B = 1448
_SYN, _SYN_ACK, _ACK, _PUSH_ACK, _FIN_ACK = 0x02, 0x12, 0x10, 0x18, 0x11
_ETHERNET = b"\x02\0\0\0\0\x01\x02\0\0\0\0\x02\x08\x00"
_NOISE_B = 1 << 16

# Whether the client sends it, and the payload; for TCP the handshake and the end come by itself.
_Turns = Iterator[tuple[bool, bytes]]


def write_captures(folder: Path, packets: int, seed: int = 1) -> list[Path]:
    """Write files of at most 50,000 packets; the same seed gives the same bytes."""
    chance = random.Random(seed)
    noise = chance.randbytes(_NOISE_B)
    frames = _frames(chance, noise)
    written = []
    for start in range(0, packets, _PER_FILE):
        path = folder / f"{start // _PER_FILE:03}.pcap"
        with path.open("wb") as file:
            # pcap 2.4, little-endian, microseconds, Ethernet (draft-ietf-opsawg-pcap).
            file.write(struct.pack("<IHHIIII", 0xA1B2C3D4, 2, 4, 0, 0, 1 << 18, 1))
            for number in range(start, min(packets, start + _PER_FILE)):
                frame = next(frames)
                seconds, rest_us = divmod(number * _PAUSE_US, 10**6)
                file.write(struct.pack("<IIII", 10**9 + seconds, rest_us, len(frame), len(frame)))
                file.write(frame)
        written.append(path)
    return written


def _frames(chance: random.Random, noise: bytes) -> Iterator[bytes]:
    """Without an end."""
    open_flows = [_flow(chance, noise) for _ in range(_OPEN)]
    while True:
        number = chance.randrange(_OPEN)
        frame = next(open_flows[number], None)
        if frame is None:
            open_flows[number] = _flow(chance, noise)
        else:
            yield frame


def _flow(chance: random.Random, noise: bytes) -> Iterator[bytes]:
    kinds = list(_KINDS)
    (kind,) = chance.choices(kinds, [weight for weight, *_ in _KINDS.values()])
    _, make, protocol, port = _KINDS[kind]
    client = bytes([10, 8, chance.randrange(256), chance.randrange(1, 255)])
    server = bytes([93, chance.randrange(256), chance.randrange(256), chance.randrange(1, 255)])
    ends = client, chance.randrange(1024, 65536), server, port or chance.randrange(1024, 65536)
    turns = make(chance, noise)
    return _tcp(turns, *ends) if protocol == 6 else _udp(turns, *ends)


def _some(chance: random.Random, noise: bytes, size: int) -> bytes:
    """Bytes without a pattern."""
    at = chance.randrange(_NOISE_B - size)
    return noise[at : at + size]


def _tls(chance: random.Random, noise: bytes) -> _Turns:
    yield True, bytes.fromhex("1603010200010001fc0303") + _some(chance, noise, 506)
    yield False, bytes.fromhex("160303007a020000760303") + _some(chance, noise, 1200)
    yield True, b"\x17\x03\x03\x00\x40" + _some(chance, noise, 64)
    for number in range(int(chance.expovariate(1 / 40))):
        yield False, (b"\x17\x03\x03\x3f\xff" + _some(chance, noise, 1443))[:_MTU_PAYLOAD_B]
        if number % 2:
            yield True, b""


def _http(chance: random.Random, noise: bytes) -> _Turns:
    yield (
        True,
        b"GET /news/%d HTTP/1.1\r\nHost: www.example.com\r\nAccept: */*\r\n\r\n"
        % chance.randrange(10**6),
    )
    yield (
        False,
        b"HTTP/1.1 200 OK\r\nContent-Length: 20272\r\n\r\n",
    )
    for number in range(14):
        yield False, _some(chance, noise, _MTU_PAYLOAD_B)
        if number % 2:
            yield True, b""


def _dns(chance: random.Random, noise: bytes) -> _Turns:
    question = b"\x03www\x07example\x03com\0\0\1\0\1"
    number = _some(chance, noise, 2)
    yield True, number + bytes.fromhex("01000001000000000000") + question
    answer = b"\xc0\x0c\0\1\0\1\0\0\x0e\x10\0\4\x5d\xb8\xd8\x22"
    yield False, number + bytes.fromhex("81800001000100000000") + question + answer


def _quic(chance: random.Random, noise: bytes) -> _Turns:
    yield True, bytes.fromhex("c30000000108") + _some(chance, noise, 1194)
    yield False, bytes.fromhex("c30000000100") + _some(chance, noise, 1194)
    for number in range(int(chance.expovariate(1 / 40))):
        yield number % 8 == 7, b"\x4a" + _some(chance, noise, 60 if number % 8 == 7 else 1199)


def _call(chance: random.Random, noise: bytes) -> _Turns:
    """RTP (RFC 3550)."""
    source = _some(chance, noise, 4)
    for number in range(chance.randrange(50, 300)):
        head = struct.pack(">BBHI", 0x80, 0x60, number // 2, number // 2 * 160)
        yield number % 2 == 0, head + source + _some(chance, noise, 160)


def _dht(chance: random.Random, noise: bytes) -> _Turns:
    """BEP 5."""
    number = _some(chance, noise, 2)
    yield True, b"d1:ad2:id20:%be1:q4:ping1:t2:%b1:y1:qe" % (_some(chance, noise, 20), number)
    yield False, b"d1:rd2:id20:%be1:t2:%b1:y1:re" % (_some(chance, noise, 20), number)


def _peer(chance: random.Random, noise: bytes) -> _Turns:
    """BEP 3."""
    torrent = _some(chance, noise, 20)
    for forth in (True, False):
        yield forth, b"\x13BitTorrent protocol" + bytes(8) + torrent + _some(chance, noise, 20)
    for _ in range(30):
        yield False, _some(chance, noise, _MTU_PAYLOAD_B)


# Share of the conversations, their turns, protocol, and the server's port where it is fixed.
_KINDS: dict[str, tuple[int, Callable[[random.Random, bytes], _Turns], int, int | None]] = {
    "tls": (40, _tls, 6, 443),
    "dns": (30, _dns, 17, 53),
    "quic": (12, _quic, 17, 443),
    "http": (8, _http, 6, 80),
    "call": (5, _call, 17, None),
    "dht": (4, _dht, 17, None),
    "peer": (1, _peer, 6, None),
}


def _udp(turns: _Turns, client: bytes, port: int, server: bytes, to: int) -> Iterator[bytes]:
    ends = {
        True: (client + server, struct.pack(">HH", port, to)),
        False: (server + client, struct.pack(">HH", to, port)),
    }
    for forth, payload in turns:
        addresses, ports = ends[forth]
        yield _frame(17, addresses, ports + struct.pack(">HH", 8 + len(payload), 0) + payload)


def _tcp(turns: _Turns, client: bytes, port: int, server: bytes, to: int) -> Iterator[bytes]:
    ends = {
        True: (client + server, struct.pack(">HH", port, to)),
        False: (server + client, struct.pack(">HH", to, port)),
    }
    sent = {True: 1000, False: 500_000}

    def segment(forth: bool, flags: int, payload: bytes = b"") -> bytes:
        addresses, ports = ends[forth]
        acknowledged = 0 if flags == _SYN else sent[not forth]
        head = struct.pack(">IIBBHHH", sent[forth], acknowledged, 0x50, flags, 0xFFFF, 0, 0)
        sent[forth] += len(payload) + bool(flags & 0x03)  # SYN and FIN take up a number
        return _frame(6, addresses, ports + head + payload)

    yield segment(True, _SYN)
    yield segment(False, _SYN_ACK)
    yield segment(True, _ACK)
    for forth, payload in turns:
        yield segment(forth, _PUSH_ACK if payload else _ACK, payload)
    yield segment(True, _FIN_ACK)
    yield segment(False, _FIN_ACK)
    yield segment(True, _ACK)


def _frame(protocol: int, addresses: bytes, body: bytes) -> bytes:
    header = struct.pack(">BBHIBBH", 0x45, 0, 20 + len(body), 0, 64, protocol, 0)
    return _ETHERNET + header + addresses + body
