from __future__ import annotations

from ipaddress import ip_address

import pytest

from engine.enforce import bans as module
from engine.enforce.bans import BanList
from engine.enforce.bpf import BanEntry

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
        {
            "address": A,
            "reason": "a.b",
            "since": 1_700_000_100,
            "remaining_s": 50,
            "driver_packets": None,
            "driver_bytes": None,
        }
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
    assert (len(bans), maps.entries) == (0, {})


def test_bans_run_out(bans: BanList, maps: Maps, clock: Clock) -> None:
    bans.ban(packed(A), "a.b", 60)
    bans.ban(packed(B), "a.b", 120)
    clock.now_s += 60
    assert [ban.address for ban in bans] == [packed(B)]
    assert len(bans.expire()) == 1
    assert (len(bans), list(maps.entries)) == (1, [packed(B)])


def test_the_oldest_gives_way(bans: BanList, maps: Maps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEFAULT_CAPACITY", 2)
    for address in (A, B, A, C):
        bans.ban(packed(address), "a.b", 60)
    assert [ban.address for ban in bans] == [packed(A), packed(C)]
    assert set(maps.entries) == {packed(A), packed(C)}


def test_every_enforcer_hears_of_it(clock: Clock) -> None:
    one, two = Maps(), Maps()
    bans = BanList(one, two)
    bans.ban(packed(A), "a.b", 60)
    assert one.entries == two.entries == dict(bans.until_ns()) == {packed(A): 160 * NS}
    bans.unban(packed(A))
    assert one.entries == two.entries == dict(bans.until_ns()) == {}


def test_a_ban_is_listed_with_what_it_has_dropped_in_the_driver(bans: BanList) -> None:
    ban = bans.ban(packed(A), "a.b", 60)
    listed = ban.as_json(BanEntry(ban.address, ban.expires_ns, packets=3, bytes=180))
    assert (listed["driver_packets"], listed["driver_bytes"]) == (3, 180)


def test_a_ban_that_the_driver_has_set_is_taken_in(
    bans: BanList, maps: Maps, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DEFAULT_CAPACITY", 2)
    for address in (A, B):
        bans.ban(packed(address), "manual", 60)
    bans.ban_until(packed(C), "a.b", 130 * NS)
    assert [(ban.address, ban.reason) for ban in bans] == [
        (packed(B), "manual"),
        (packed(C), "a.b"),
    ]
    assert maps.entries == {packed(B): 160 * NS, packed(C): 130 * NS}, "the oldest gave way"
    clock.now_s += 30
    assert [ban.reason for ban in bans.expire()] == ["a.b"]
    assert set(maps.entries) == {packed(B)}
