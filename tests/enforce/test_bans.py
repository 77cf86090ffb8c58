from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest

from engine.enforce import bans as module
from engine.enforce.bans import BanList, Growth
from engine.enforce.bpf import BanEntry
from engine.enforce.networks import NetworkSet
from engine.enforce.state import BanRecord, BanState
from engine.enforce.target import parse_target

A, B, C = map(parse_target, ("198.51.100.1", "198.51.100.2", "198.51.100.3"))
ENDPOINT = parse_target("198.51.100.1:6881")
NS = 1_000_000_000
START = 1_700_000_100


class Maps:
    """What drops packets would hold."""

    def __init__(self) -> None:
        self.entries: dict[bytes, int] = {}
        self.dropped: dict[bytes, tuple[int, int]] = {}

    def banned(self) -> Iterator[BanEntry]:
        for target, expires_ns in self.entries.items():
            yield BanEntry(target, expires_ns, *self.dropped.get(target, (0, 0)))

    def ban(self, target: bytes, expires_ns: int) -> None:
        self.entries[target] = expires_ns

    def unban(self, target: bytes) -> bool:
        return self.entries.pop(target, None) is not None


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0
        self.wall_ahead_s = 1_700_000_000.0

    def monotonic_ns(self) -> int:
        return int(self.now_s * NS)

    def time(self) -> float:
        return self.wall_ahead_s + self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def queue() -> Maps:
    return Maps()


@pytest.fixture
def driver() -> Maps:
    return Maps()


@pytest.fixture
def bans(queue: Maps, driver: Maps, clock: Clock) -> BanList:
    made = BanList(queue, growth=Growth(2, 300, 1000))
    made.use_driver(driver)
    return made


def test_a_driver_that_comes_later_gets_all_and_one_that_goes_no_more(
    queue: Maps, driver: Maps, clock: Clock
) -> None:
    bans = BanList(queue)
    for target in (A, ENDPOINT):
        bans.offend(target, "a.b", 60)
    bans.use_driver(driver)
    assert driver.entries == {A: 160 * NS}
    bans.use_driver(None)
    bans.offend(B, "a.b", 60)
    bans.unban(A)
    assert driver.entries == {A: 160 * NS}


def test_a_ban_is_mirrored_and_told(bans: BanList, queue: Maps, driver: Maps, clock: Clock) -> None:
    bans.offend(A, "a.b", 60)
    clock.now_s += 10
    assert queue.entries == driver.entries == {A: 160 * NS}
    assert [ban.as_json() for ban in bans] == [
        {
            "address": "198.51.100.1",
            "reason": "a.b",
            "first_seen": START,
            "last_seen": START,
            "offences": 1,
            "remaining_s": 50,
            "packets": 0,
            "bytes": 0,
        }
    ]


def test_an_endpoint_is_left_to_the_queue(bans: BanList, queue: Maps, driver: Maps) -> None:
    bans.offend(ENDPOINT, "a.b", 60)
    assert (list(queue.entries), driver.entries) == ([ENDPOINT], {})
    assert bans.unban(ENDPOINT)
    assert queue.entries == {}


def test_what_was_under_way_when_a_ban_began_only_prolongs_it(
    bans: BanList, queue: Maps, clock: Clock
) -> None:
    bans.offend(A, "a.b", 60)
    bans.offend(B, "a.b", 60)
    bans.count({A: (3, 300)})
    clock.now_s += 30
    ban = bans.offend(A, "a.c", 60)
    assert (ban.reason, ban.offences, ban.first_seen, ban.packets) == ("a.c", 1, START, 3)
    assert [ban.target for ban in bans] == [B, A]
    assert queue.entries == {A: 190 * NS, B: 160 * NS}
    ban = bans.offend(A, "a.d", 1)
    assert (ban.reason, ban.expires_ns) == ("a.c", 190 * NS), "never shortened by a detection"


def test_what_the_driver_drops_is_counted(bans: BanList, driver: Maps, tmp_path: Path) -> None:
    bans.offend(A, "a.b", 60)
    bans.count({A: (1, 100)})
    driver.dropped = {A: (5, 500), C: (1, 1)}
    bans.read_driver()
    (ban,) = bans
    assert (ban.as_json()["packets"], ban.as_json()["bytes"]) == (6, 600)
    assert bans.offend(A, "a.b", 100).record().packets == 6
    bans.use_driver(None)
    bans.read_driver()
    assert ban.record().bytes == 600, "it is gone, and so are no counts"


def test_bans_of_repeaters_grow_up_to_a_bound(bans: BanList, clock: Clock) -> None:
    lasted = []
    for _ in range(5):
        ban = bans.offend(A, "a.b", 60)
        lasted.append(ban.remaining_s)
        clock.now_s += ban.remaining_s + 10
        bans.expire()
    assert lasted == [60, 120, 240, 300, 300]
    assert (ban.offences, ban.first_seen) == (5, START)
    assert bans.remembered == 1


@pytest.mark.parametrize("cleaned_up", [True, False])
def test_a_repeater_is_forgotten_after_a_while(
    bans: BanList, clock: Clock, cleaned_up: bool
) -> None:
    bans.offend(A, "a.b", 60)
    clock.now_s += 60 + 1000
    if cleaned_up:
        bans.expire()
        assert bans.remembered == 0
    ban = bans.offend(A, "a.b", 60)
    assert (ban.offences, ban.remaining_s, ban.first_seen) == (1, 60, START + 1060)


@pytest.mark.parametrize(
    ("growth", "base_s", "offences", "lasts_s"),
    [
        (Growth(1, 1000, 0), 60, 1_000_000, 60),
        (Growth(3, 1000, 0), 60, 3, 540),
        (Growth(100, 1000, 0), 60, 1_000_000, 1000),
        (Growth(2, 50, 0), 60, 3, 60),
    ],
)
def test_growth(growth: Growth, base_s: int, offences: int, lasts_s: int) -> None:
    assert growth.duration_s(base_s, offences) == lasts_s


def test_by_hand_a_ban_lasts_as_long_as_is_said(bans: BanList, clock: Clock) -> None:
    bans.offend(A, "a.b", 200)
    ban = bans.ban(A, 10, "a complaint")
    assert (ban.remaining_s, ban.reason, ban.offences) == (10, "a complaint", 1)
    assert bans.ban(B, 10).offences == 0
    clock.now_s += 20
    assert bans.offend(B, "a.b", 60).remaining_s == 60, "no offence before"


def test_a_ban_is_lifted_and_forgotten(bans: BanList, queue: Maps, driver: Maps) -> None:
    bans.offend(A, "a.b", 60)
    assert bans.unban(A)
    assert not bans.unban(A)
    assert (len(bans), queue.entries, driver.entries) == (0, {}, {})
    assert bans.offend(A, "a.b", 60).offences == 1


def test_bans_in_a_network_are_lifted(bans: BanList) -> None:
    for target in (A, B, C, ENDPOINT, parse_target("2001:db8::1")):
        bans.offend(target, "a.b", 60)
    networks = NetworkSet([ip_network("198.51.100.0/31"), ip_network("2001:db8::/32")])
    assert len(bans.unban_in(networks)) == 3
    assert [ban.target for ban in bans] == [B, C]


def test_bans_run_out(bans: BanList, queue: Maps, driver: Maps, clock: Clock) -> None:
    bans.offend(A, "a.b", 60)
    bans.offend(B, "a.b", 120)
    clock.now_s += 60
    assert [ban.target for ban in bans] == [B]
    assert [ban.target for ban in bans.expire()] == [A]
    assert (len(bans), list(driver.entries)) == (1, [B])
    assert list(queue.entries) == [A, B], "workers forget by themselves"


def test_a_flood_that_ends_is_cleaned_up_bit_by_bit(
    bans: BanList, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_EXPIRED_AT_ONCE", 2)
    monkeypatch.setattr(module, "MAX_REMEMBERED", 2)
    for target in (A, B, C):
        bans.offend(target, "a.b", 60)
    clock.now_s += 60
    assert [len(bans.expire()) for _ in range(3)] == [2, 1, 0]
    assert bans.remembered == 2
    assert bans.offend(A, "a.b", 60).offences == 1, "the oldest was forgotten"


def test_the_oldest_gives_way(bans: BanList, queue: Maps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEFAULT_CAPACITY", 2)
    for target in (A, B, A, C):
        bans.offend(target, "a.b", 60)
    assert [ban.target for ban in bans] == [A, C]
    assert set(queue.entries) == {A, C}


KEPT = BanRecord(A, "a.b", START - 500, START - 20, START + 40, 2, 7, 700)


def test_what_was_kept_is_in_force_again(bans: BanList, queue: Maps, driver: Maps) -> None:
    over = KEPT._replace(target=C, last_seen=START - 90, expires=START - 30, offences=1)
    assert bans.restore([KEPT, over]) == 1
    assert queue.entries == driver.entries == {A: 140 * NS}
    (ban,) = bans
    assert ban.record() == KEPT
    assert bans.offend(C, "a.b", 60).remaining_s == 120, "its offence is remembered"


def test_a_clock_that_runs_behind_makes_no_ban_longer(bans: BanList, clock: Clock) -> None:
    clock.wall_ahead_s = 0.0
    bans.restore([KEPT])
    (ban,) = bans
    assert ban.remaining_s == 60


def test_all_is_kept(bans: BanList, queue: Maps, clock: Clock, tmp_path: Path) -> None:
    file = tmp_path / "bans.sqlite"
    state = BanState(file)
    state.load()
    kept = BanList(queue, state=state, growth=Growth(2, 300, 1000))
    kept.offend(A, "a.b", 60)
    kept.ban(ENDPOINT, 100)
    kept.offend(C, "a.b", 60)
    kept.unban(C)
    kept.count({A: (3, 300), B: (1, 1)})
    kept.keep_counts()
    state.close()
    bans.restore(BanState(file).load().bans)
    assert [ban.as_json() for ban in bans] == [ban.as_json() for ban in kept]
    assert sorted(ban.packets for ban in bans) == [0, 3]
