from __future__ import annotations

import time
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.enforce import banned as module
from engine.enforce.banned import BannedAddresses
from engine.enforce.target import parse_target
from tests.captures import tcp, udp

A, B, C = "198.51.100.1", "198.51.100.2", "198.51.100.3"
A6, B6 = "2001:db8::1", "2001:db8::2"
LATER_NS, PAST_NS = time.monotonic_ns() + 3600 * 10**9, 1


def banned(*targets: str, until_ns: int = LATER_NS) -> BannedAddresses:
    made = BannedAddresses()
    for target in targets:
        made.set(parse_target(target), until_ns)
    return made


@pytest.mark.parametrize(
    ("datagram", "drop"),
    [
        (udp(A, 1, C, 2, b""), True),
        (udp(C, 1, A, 2, b""), True),
        (udp(C, 1, B, 2, b""), None),
        (udp(A6, 1, B6, 2, b""), True),
        (udp(B6, 1, A6, 2, b""), True),
        (udp(B6, 1, B6, 2, b""), None),
        (b"", None),
        (b"\x45", None),
        (b"\x60", None),
    ],
)
def test_packets_of_banned_addresses_are_dropped(datagram: bytes, drop: bool | None) -> None:
    assert BannedAddresses().judge(datagram) is None
    assert banned(A, A6).judge(datagram) is drop


@pytest.mark.parametrize(
    ("datagram", "drop"),
    [
        (udp(A, 6881, C, 2, b"x"), True),
        (udp(C, 2, A, 6881, b"x"), True),
        (tcp(A, 6881, C, 2, b"x"), True),
        (udp(A, 6882, C, 6881, b"x"), None),
        (udp(A6, 6881, B6, 2, b"x"), True),
        (udp(B6, 2, A6, 6882, b"x"), None),
        (udp(A, 6881, C, 2, b"x")[:21], None),
        (b"\x45", None),
    ],
)
def test_packets_of_banned_endpoints_are_dropped(datagram: bytes, drop: bool | None) -> None:
    assert banned(f"{A}:6881", f"[{A6}]:6881").judge(datagram) is drop


def test_an_expired_ban_hides_no_other() -> None:
    made = banned(A, until_ns=PAST_NS)
    assert made.judge(udp(A, 1, C, 2, b"")) is None
    made.set(parse_target(B), LATER_NS)
    assert made.judge(udp(A, 1, B, 2, b"")) is True
    assert made.judge(udp(B, 1, A, 2, b"")) is True
    made.forget_expired()
    assert len(made) == 1


def test_a_lifted_ban_is_none() -> None:
    made = banned(A, f"{B}:5")
    for target in (A, f"{B}:5", C):
        made.set(parse_target(target), 0)
    assert made.judge(udp(A, 1, B, 5, b"x")) is None


def test_all_of_them_are_replaced() -> None:
    made = banned(A, f"{A}:5")
    made.replace([(parse_target(f"{B}:5"), LATER_NS)])
    assert made.judge(udp(A, 1, C, 2, b"")) is None
    assert made.judge(udp(B, 5, C, 2, b"")) is True
    made.replace([(parse_target(B), LATER_NS)])
    assert made.judge(udp(B, 6, C, 2, b"")) is True
    made.replace([])
    assert made.judge(udp(B, 5, C, 2, b"")) is None


def test_the_allowed_speak_with_everybody() -> None:
    made = banned(A, B, A6, f"{C}:5")
    made.allow_only([ip_network("198.51.100.2/31"), ip_network(B6)])
    assert made.judge(udp(A, 1, B, 2, b"")) is False
    assert made.judge(udp(B, 1, A, 2, b"")) is False
    assert made.judge(udp(C, 5, "192.0.2.1", 2, b"")) is False
    assert made.judge(udp(A6, 1, B6, 2, b"")) is False
    assert made.judge(udp(A, 1, "192.0.2.1", 2, b"")) is True
    assert made.judge(udp("192.0.2.1", 1, "192.0.2.2", 2, b"")) is None
    made.allow_only([])
    assert made.judge(udp(A, 1, B, 2, b"")) is True


def test_many_strangers_are_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_KNOWN", 4)
    made = BannedAddresses()
    made.allow_only([ip_network(A)])
    for low in range(20):
        assert made.judge(udp(f"192.0.2.{low}", 1, B, 2, b"")) is None
        assert len(made._is_allowed) <= 4
    assert made.judge(udp(A, 1, B, 2, b"")) is False


def test_what_is_dropped_is_counted() -> None:
    made = banned(A, f"{B}:5")
    datagram = udp(A, 1, C, 2, b"12345")
    for _ in range(3):
        made.judge(datagram)
    made.judge(udp(C, 1, B, 5, b""))
    made.judge(udp(C, 1, B, 6, b""))
    assert made.dropped == {
        parse_target(A): (3, 3 * len(datagram)),
        parse_target(f"{B}:5"): (1, 28),
    }


@given(st.binary(max_size=80))
def test_no_bytes_are_too_strange(datagram: bytes) -> None:
    made = banned(A, f"{A}:5", f"[{A6}]:5")
    made.allow_only([ip_network(B)])
    assert made.judge(datagram) in (True, False, None)
