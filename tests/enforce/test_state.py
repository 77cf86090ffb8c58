"""A real file, real failures of it."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path

import pytest

from engine.enforce import state as module
from engine.enforce.state import BanRecord, BanState, Kept
from engine.enforce.target import parse_target
from tests.enforce.conftest import wait_until

BAN = BanRecord(parse_target("198.51.100.1"), "a.b", 1.5, 2.5, 1e9, 3, 4, 5)
ENDPOINT = BAN._replace(target=parse_target("[2001:db8::1]:6881"), reason='a "quoted" \N{SNOWMAN}')
OFFICE = ip_network("10.0.0.0/8")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "queue-0.sqlite"


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WRITE_INTERVAL_S", 0.01)
    monkeypatch.setattr(module, "RETRY_S", 0.01)


def fill(file: Path, *bans: BanRecord) -> None:
    state = BanState(file)
    state.load()
    for ban in bans:
        state.keep(ban)
    state.close()


def kept_in(file: Path) -> Kept:
    state = BanState(file)
    kept = state.load()
    state.close()
    return kept


def test_what_is_kept_is_read_again(file: Path) -> None:
    state = BanState(file)
    assert state.load() == Kept()
    state.keep(BAN._replace(offences=1))
    state.keep(BAN)
    state.keep(ENDPOINT)
    state.keep(BAN._replace(target=bytes(4)))
    state.forget(bytes(4))
    state.allow(OFFICE, 12.5)
    state.allow(ip_network("::1"), 13)
    state.disallow(ip_network("::1"))
    state.close()
    kept = kept_in(file)
    assert sorted(kept.bans, key=lambda ban: ban.target) == [ENDPOINT, BAN]
    assert kept.allowed == {OFFICE: 12.5}


def test_it_is_written_while_we_go_on(file: Path) -> None:
    state = BanState(file)
    state.load()
    state.keep(BAN)
    # Readable beside the lock that the writer holds: WAL files as a crash would leave them.
    copy = file.with_name("copy.sqlite")

    def is_there() -> bool:
        for suffix in ("", "-wal"):
            found = file.with_name(file.name + suffix)
            copy.with_name(copy.name + suffix).write_bytes(found.read_bytes())
        return kept_in(copy).bans == [BAN]

    assert wait_until(is_there)
    state.close()


def test_whoever_waits_for_the_disk_need_not_wait_for_the_interval(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WRITE_INTERVAL_S", 1000)
    monkeypatch.setattr(module, "RETRY_S", 1000)
    state = BanState(file)
    state.load()
    state.keep(BAN)
    assert state.flush()
    assert not state._changes
    state.close()
    assert not BanState().flush()
    file.parent.rename(file.parent.with_name("elsewhere"))
    file.parent.write_text("in the way")
    state = BanState(file)
    state.load()
    state.keep(BAN)
    assert not state.flush()
    file.parent.unlink()
    assert state.flush()
    state.close()


def test_many_take_several_statements(file: Path) -> None:
    many = [BAN._replace(target=number.to_bytes(4, "big")) for number in range(1234)]
    fill(file, *many)
    assert sorted(kept_in(file).bans, key=lambda ban: ban.target) == many


def test_only_we_may_read_who_was_banned(file: Path) -> None:
    fill(file, BAN)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_without_a_file_nothing_is_kept() -> None:
    state = BanState()
    assert state.load() == Kept()
    state.keep(BAN)
    state.forget(BAN.target)
    state.close()
    assert not state.problem


def cut(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:5000] + b"\xff" * (len(content) - 5000))


@pytest.mark.parametrize(
    "damage",
    [cut, lambda file: file.write_bytes(b"no database" * 1000)],
    ids=["damaged", "something else"],
)
def test_a_broken_file_is_put_aside(
    file: Path, damage: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    fill(file, BAN, *(BAN._replace(target=n.to_bytes(4, "big")) for n in range(500)))
    damage(file)
    broken = file.read_bytes()
    state = BanState(file)
    assert state.load() == Kept()
    state.keep(ENDPOINT)
    state.close()
    assert kept_in(file).bans == [ENDPOINT]
    assert file.with_suffix(".broken").read_bytes() == broken
    assert "put aside" in caplog.text


def test_one_that_breaks_meanwhile_is_begun_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "folder"
    folder.write_text("in the way, so that the file is opened later than it is read")
    file = folder / "queue-0.sqlite"
    state = BanState(file)
    state.load()
    folder.unlink()
    folder.mkdir()
    file.write_bytes(b"no database" * 1000)
    state.keep(BAN)
    assert wait_until(lambda: state.begun_anew and not state.problem)
    state.close()
    assert kept_in(file).bans == [BAN]
    assert "put aside" in caplog.text


def test_what_cannot_be_written_now_is_written_later(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.write_text("in the way")
    state = BanState(folder / "queue-0.sqlite")
    assert state.load() == Kept()
    assert "folder" in state.problem
    state.keep(BAN._replace(offences=1))
    assert wait_until(lambda: "cannot be written" in state.problem)
    for offences in range(100):
        state.keep(BAN._replace(offences=offences))
    assert len(state._changes) <= 1
    folder.unlink()
    assert wait_until(lambda: not state.problem)
    state.close()
    assert [ban.offences for ban in kept_in(folder / "queue-0.sqlite").bans] == [99]


def test_one_file_has_one_writer(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOCK_TIMEOUT_S", 0.01)
    first = BanState(file)
    first.load()
    first.keep(BAN)
    second = BanState(file)
    assert second.load() == Kept()
    assert "locked" in second.problem
    second.close()
    first.close()
    assert kept_in(file).bans == [BAN]


def test_a_later_btblocker_s_file_is_left_alone(file: Path) -> None:
    fill(file, BAN)
    with sqlite3.connect(file) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    state = BanState(file)
    assert state.load() == Kept()
    state.keep(ENDPOINT)
    assert "later btblocker" in state.problem
    state.close()
    with sqlite3.connect(file) as database:
        assert database.execute("SELECT count(*) FROM bans").fetchone() == (1,)
    database.close()


def test_rows_from_another_hand_are_left_out(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(file, BAN)
    with sqlite3.connect(file) as database:
        database.execute("INSERT INTO bans SELECT 'somebody', reason, 1, 2, 3, 4, 5, 6 FROM bans")
        database.execute("INSERT INTO bans VALUES ('10.0.0.1', 'x', 'long ago', 2, 3, 4, 5, 6)")
        database.execute("INSERT INTO allowed VALUES ('everybody', 1)")
        database.execute("INSERT INTO allowed VALUES ('10.0.0.0/8', 2)")
    database.close()
    kept = kept_in(file)
    assert (kept.bans, kept.allowed) == ([BAN], {OFFICE: 2.0})
    assert caplog.text.count("is left out") == 3


def test_a_disk_that_hangs_does_not_keep_us(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The disk is a lock here that somebody else holds."""
    fill(file)
    holder = sqlite3.connect(file, isolation_level=None)
    holder.execute("PRAGMA locking_mode = EXCLUSIVE")
    holder.execute("BEGIN EXCLUSIVE")
    monkeypatch.setattr(module, "LOCK_TIMEOUT_S", 0.01)
    state = BanState(file)
    state.load()
    monkeypatch.setattr(module, "LOCK_TIMEOUT_S", 60)
    monkeypatch.setattr(module, "_CLOSE_S", 0.05)
    state.keep(BAN)
    state.close()
    assert "does not answer" in caplog.text
    holder.close()
    state._thread.join(30)
    assert kept_in(file).bans == [BAN]
