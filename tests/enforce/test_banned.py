from __future__ import annotations

from ipaddress import ip_address

import pytest

from engine.enforce import banned as module
from engine.enforce.banned import BannedAddresses
from tests.captures import udp

A, B, C = "198.51.100.1", "198.51.100.2", "198.51.100.3"
A6, B6 = "2001:db8::1", "2001:db8::2"
NS = 1_000_000_000


class Clock:
    def __init__(self) -> None:
        self.now_s = 100

    def monotonic_ns(self) -> int:
        return self.now_s * NS


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def banned(clock: Clock) -> BannedAddresses:
    return BannedAddresses()


def ban(banned: BannedAddresses, address: str, until_s: int) -> None:
    banned.set(ip_address(address).packed, until_s * NS)


@pytest.mark.parametrize(
    ("datagram", "covered"),
    [
        (udp(A, 1, C, 2, b""), True),
        (udp(C, 1, A, 2, b""), True),
        (udp(C, 1, B, 2, b""), False),
        (udp(A6, 1, B6, 2, b""), True),
        (udp(B6, 1, A6, 2, b""), True),
        (udp(B6, 1, B6, 2, b""), False),
        (b"", False),
        (b"\x45", False),
        (b"\x60", False),
    ],
)
def test_what_is_covered(banned: BannedAddresses, datagram: bytes, covered: bool) -> None:
    assert not banned.covers(datagram)
    ban(banned, A, 160)
    ban(banned, A6, 160)
    assert banned.covers(datagram) is covered
    ban(banned, A, 0)
    ban(banned, A6, 0)
    assert not banned.covers(datagram)


def test_a_ban_that_has_ended_hides_no_other(banned: BannedAddresses, clock: Clock) -> None:
    ban(banned, A, 110)
    ban(banned, B, 200)
    clock.now_s = 150
    assert not banned.covers(udp(A, 1, C, 2, b""))
    assert banned.covers(udp(A, 1, B, 2, b""))
    assert banned.covers(udp(B, 1, A, 2, b""))


def test_what_has_ended_is_forgotten(banned: BannedAddresses, clock: Clock) -> None:
    ban(banned, A, 110)
    ban(banned, B, 200)
    clock.now_s = 150
    banned.forget_expired()
    assert len(banned) == 1
    assert banned.covers(udp(B, 1, C, 2, b""))
