from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from engine.enforce import bans as module
from engine.enforce.bans import BanList
from engine.enforce.bpf import BanEntry
from tests.captures import udp

A, B, C = "198.51.100.1", "198.51.100.2", "198.51.100.3"
A6, B6 = "2001:db8::1", "2001:db8::2"
NS = 1_000_000_000


def packed(address: str) -> bytes:
    return ip_address(address).packed


class Maps:
    """What the kernel's maps would hold."""

    def __init__(self) -> None:
        self.entries: dict[bytes, int] = {}

    def ban(self, address: bytes, expires_ns: int) -> None:
        self.entries[address] = expires_ns

    def unban(self, address: bytes) -> bool:
        return self.entries.pop(address, None) is not None

    def banned(self) -> Iterator[BanEntry]:
        return (BanEntry(address, end, 3, 180) for address, end in self.entries.items())


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic_ns(self) -> int:
        return int(self.now_s * NS)

    def time(self) -> float:
        return 1_700_000_000 + self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def maps() -> Maps:
    return Maps()


@pytest.fixture
def bans(maps: Maps, clock: Clock) -> BanList:
    return BanList(maps)


def test_a_ban_is_mirrored_and_told(bans: BanList, maps: Maps, clock: Clock) -> None:
    bans.ban(packed(A), "a.b", 60)
    clock.now_s += 10
    assert maps.entries == {packed(A): 160 * NS}
    assert [ban.as_json() for ban in bans] == [
        {"address": A, "reason": "a.b", "since": 1_700_000_100, "remaining_s": 50}
    ]


def test_a_ban_is_renewed(bans: BanList, maps: Maps, clock: Clock) -> None:
    bans.ban(packed(A), "a.b", 60)
    bans.ban(packed(B), "a.b", 60)
    clock.now_s += 30
    bans.ban(packed(A), "a.c", 60)
    assert [(ban.address, ban.reason) for ban in bans] == [(packed(B), "a.b"), (packed(A), "a.c")]
    assert maps.entries == {packed(A): 190 * NS, packed(B): 160 * NS}


def test_a_ban_is_lifted(bans: BanList, maps: Maps) -> None:
    bans.ban(packed(A), "manual", 60)
    assert bans.unban(packed(A))
    assert not bans.unban(packed(A))
    assert not bans.covers(udp(A, 1, C, 2, b""))
    assert (len(bans), maps.entries) == (0, {})


def test_bans_run_out(bans: BanList, maps: Maps, clock: Clock) -> None:
    bans.ban(packed(A), "a.b", 60)
    bans.ban(packed(B), "a.b", 120)
    clock.now_s += 60
    assert [ban.address for ban in bans] == [packed(B)]
    assert not bans.covers(udp(A, 1, C, 2, b""))
    assert bans.expire() == 1
    assert (len(bans), list(maps.entries)) == (1, [packed(B)])


def test_the_oldest_gives_way(bans: BanList, maps: Maps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEFAULT_CAPACITY", 2)
    for address in (A, B, A, C):
        bans.ban(packed(address), "a.b", 60)
    assert [ban.address for ban in bans] == [packed(A), packed(C)]
    assert set(maps.entries) == {packed(A), packed(C)}


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
def test_what_is_covered(bans: BanList, datagram: bytes, covered: bool) -> None:
    assert not bans.covers(datagram)
    bans.ban(packed(A), "a.b", 60)
    bans.ban(packed(A6), "a.b", 60)
    assert bans.covers(datagram) is covered


def test_an_expired_ban_hides_no_other(bans: BanList, clock: Clock) -> None:
    bans.ban(packed(A), "a.b", 10)
    bans.ban(packed(B), "a.b", 100)
    clock.now_s += 50
    assert bans.covers(udp(A, 1, B, 2, b""))
    assert bans.covers(udp(B, 1, A, 2, b""))


def test_bans_are_listed_with_what_the_driver_has_dropped(bans: BanList) -> None:
    bans.ban(packed(A), "a.b", 60)
    (listed,) = bans.as_json()
    assert (listed["address"], listed["driver_packets"], listed["driver_bytes"]) == (A, 3, 180)


def test_a_ban_that_the_driver_has_set_is_taken_in(
    bans: BanList, maps: Maps, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DEFAULT_CAPACITY", 2)
    for address in (A, B):
        bans.ban(packed(address), "manual", 60)
    maps.ban(packed(C), 130 * NS)
    bans.adopt(packed(C), "a.b", 130 * NS)
    assert [(ban.address, ban.reason) for ban in bans] == [
        (packed(B), "manual"),
        (packed(C), "a.b"),
    ]
    assert set(maps.entries) == {packed(B), packed(C)}, "the oldest gave way"
    assert bans.covers(udp(C, 1, A, 2, b""))
    clock.now_s += 30
    assert bans.expire() == 1
    assert set(maps.entries) == {packed(B)}


def test_without_xdp_bans_hold_too(clock: Clock) -> None:
    bans = BanList()
    bans.ban(packed(A), "a.b", 60)
    assert bans.as_json()[0]["driver_packets"] is None
    assert bans.covers(udp(A, 1, C, 2, b""))
    assert bans.unban(packed(A))
