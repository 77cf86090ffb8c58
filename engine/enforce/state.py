"""What outlives the process: bans and allowed networks, in a SQLite file.

A thread writes it, once a second at most and in one transaction that is on the disk when it
ends: so a kill or a power cut loses the last second, and nobody waits for the disk. Nothing here
stops the blocker. What cannot be read or written is a `problem` to be told, and all goes on in
memory, with another attempt from time to time; a file that is no database, or a broken one, is
put aside and begun anew.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from engine.config import Network, parse_network
from engine.enforce.target import parse_target, target_text

# What a crash loses.
WRITE_INTERVAL_S = 1.0
# Between two attempts at a disk that is full, or not there.
RETRY_S = 10.0
_CLOSE_S = 5.0
# For an earlier blocker to let go of the file.
LOCK_TIMEOUT_S = 5.0
# Rows in one statement: it is made with the interpreter's lock held, for a millisecond.
_ROWS = 500

# Exclusive: of two blockers that are given one file by mistake, the second one is told.
_PRAGMAS = """
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
"""
_VERSION = 1
_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS bans (
    key TEXT PRIMARY KEY,
    reason TEXT NOT NULL,
    first_seen REAL NOT NULL,
    last_seen REAL NOT NULL,
    expires REAL NOT NULL,
    offences INTEGER NOT NULL,
    packets INTEGER NOT NULL,
    bytes INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS allowed (
    key TEXT PRIMARY KEY,
    since REAL NOT NULL
) WITHOUT ROWID;
PRAGMA user_version = {_VERSION};
COMMIT;
"""
# Tables, and how many columns they have.
_COLUMNS = {"bans": 8, "allowed": 2}
_BROKEN = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}

_log = logging.getLogger(__name__)


class BanRecord(NamedTuple):
    """A ban as it is kept; times are Unix times in seconds."""

    target: bytes
    reason: str
    first_seen: float
    last_seen: float
    expires: float
    offences: int
    packets: int
    bytes: int


@dataclass(slots=True)
class Kept:
    """What an earlier run has left: bans, and when each network was allowed (Unix time)."""

    bans: list[BanRecord] = field(default_factory=list)
    allowed: dict[Network, float] = field(default_factory=dict)


# What a row holds, its key first; None takes it out.
_Row = Sequence[object] | None
_Changes = dict[tuple[str, str], _Row]


class BanState:
    """Keeps what it is told, behind the caller's back. Used from one thread."""

    def __init__(self, file: Path | None = None) -> None:
        """Keep it in `file`, made when it is needed; nowhere without one."""
        self.file = file
        self.problem = ""
        """Why nothing can be kept now, in words."""
        self.begun_anew = False
        """What was kept before is lost: all should be told again, and this be reset."""
        self._database: sqlite3.Connection | None = None
        self._changes: _Changes = {}
        # How many changes there were, how many of them are on the disk; attempts that failed.
        self._told = self._written = self._failed = 0
        self._lock = threading.Condition()
        self._hurry = threading.Event()
        self._ends = False
        self._thread = threading.Thread(target=self._write_on, name="ban state", daemon=True)

    def load(self) -> Kept:
        """Read what was kept, and begin to keep. To be called first, and once."""
        if self.file is None:
            return Kept()
        kept = self._read()
        if self.begun_anew:  # what was there is put aside; is there something to write to?
            kept, self.begun_anew = self._read(), False
        self._thread.start()
        return kept or Kept()

    def keep(self, record: BanRecord) -> None:
        """Add a ban, or change it."""
        target, *rest = record
        text = target_text(target)
        self._change("bans", text, (text, *rest))

    def forget(self, target: bytes) -> None:
        """Take out a ban."""
        self._change("bans", target_text(target), None)

    def allow(self, network: Network, since: float) -> None:
        """Add an allowed network."""
        self._change("allowed", str(network), (str(network), since))

    def disallow(self, network: Network) -> None:
        """Take out an allowed network."""
        self._change("allowed", str(network), None)

    def close(self) -> None:
        """Write what is left, if the disk lets us within some seconds."""
        self._ends = True
        self._hurry.set()
        if self._thread.is_alive():
            self._thread.join(_CLOSE_S)
            if self._thread.is_alive():
                _log.error("%s: the disk does not answer; the last bans may be lost", self.file)

    def flush(self, timeout_s: float = _CLOSE_S) -> bool:
        """Wait until all is on the disk; false where it is not. For any thread."""
        if self.file is None:
            return False
        with self._lock:
            wanted, failed = self._told, self._failed
            self._hurry.set()
            self._lock.wait_for(lambda: self._written >= wanted or self._failed > failed, timeout_s)
            return self._written >= wanted

    def _change(self, table: str, key: str, row: _Row) -> None:
        if self.file is not None:
            with self._lock:
                self._changes[table, key] = row
                self._told += 1

    # --- the thread

    def _write_on(self) -> None:
        ends = False
        while not ends:
            self._hurry.wait(RETRY_S if self.problem else WRITE_INTERVAL_S)
            self._hurry.clear()
            ends = self._ends
            with self._lock:
                changes, self._changes, told = self._changes, {}, self._told
            is_written = not changes or self._write(changes)
            with self._lock:
                if is_written:
                    self._written = told
                else:  # what came meanwhile is newer
                    self._failed += 1
                    self._changes = changes | self._changes
                self._lock.notify_all()
        if self._database is not None:
            self._database.close()

    # --- the file

    def _read(self) -> Kept | None:
        """All of it; None after a failure."""
        try:
            database = self._open()
            kept = Kept(
                list(_bans(database.execute("SELECT * FROM bans"))),
                dict(_allowed(database.execute("SELECT * FROM allowed"))),
            )
        except (OSError, sqlite3.Error) as error:
            self._fail("cannot be read", error)
            return None
        self.problem = ""
        return kept

    def _write(self, changes: _Changes) -> bool:
        """Write in one transaction; false after a failure, and nothing is written then."""
        try:
            database = self._open()
            database.execute("BEGIN IMMEDIATE")
            for table, columns in _COLUMNS.items():
                of_table = [(key, row) for (t, key), row in changes.items() if t == table]
                extracts = ", ".join(f"json_extract(value, '$[{i}]')" for i in range(columns))
                put = f"INSERT OR REPLACE INTO {table} SELECT {extracts} FROM json_each(?)"
                _in_batches(database, put, [row for _, row in of_table if row is not None])
                take = f"DELETE FROM {table} WHERE key IN (SELECT value FROM json_each(?))"
                _in_batches(database, take, [key for key, row in of_table if row is None])
            database.execute("COMMIT")
        except (OSError, sqlite3.Error) as error:
            self._fail("cannot be written", error)
            return False
        self.problem = ""
        return True

    def _open(self) -> sqlite3.Connection:
        assert self.file is not None
        if self._database is None:
            self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.file.touch(mode=0o600)  # it says which customers were banned
            database = sqlite3.connect(
                self.file, LOCK_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            try:
                _prepare(database)
            except BaseException:
                database.close()
                raise
            self._database = database
        return self._database

    def _fail(self, what: str, error: Exception) -> None:
        if self._database is not None:
            with contextlib.suppress(sqlite3.Error):
                self._database.close()
            self._database = None
        self.problem = f"{self.file} {what}: {error}"
        # The lower byte of SQLite's code has the kind of error.
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _BROKEN:
            self._put_aside()

    def _put_aside(self) -> None:
        assert self.file is not None
        aside = self.file.with_suffix(".broken")
        try:
            self.file.replace(aside)
            for suffix in ("-wal", "-shm"):
                self.file.with_name(self.file.name + suffix).unlink(missing_ok=True)
        except OSError as error:
            _log.error("%s cannot be put aside: %s", self.file, error)
            return
        self.begun_anew = True
        _log.error("%s is put aside as %s and begun anew", self.file, aside)


def _prepare(database: sqlite3.Connection) -> None:
    database.executescript(_PRAGMAS)
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version > _VERSION:
        raise sqlite3.DatabaseError("it was made by a later btblocker")
    if version == 0:
        database.executescript(_SCHEMA)


def _in_batches(database: sqlite3.Connection, statement: str, items: Sequence[object]) -> None:
    for first in range(0, len(items), _ROWS):
        database.execute(statement, (json.dumps(items[first : first + _ROWS]),))


def _bans(rows: Iterable[tuple[Any, ...]]) -> Iterator[BanRecord]:
    for target, reason, first, last, expires, offences, packets, dropped_b in rows:
        try:
            yield BanRecord(
                parse_target(target),
                str(reason),
                float(first),
                float(last),
                float(expires),
                int(offences),
                int(packets),
                int(dropped_b),
            )
        except (TypeError, ValueError) as error:  # somebody's own hand
            _log.warning("a kept ban is left out: %s", error)


def _allowed(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Network, float]]:
    for network, since in rows:
        try:
            yield parse_network(network), float(since)
        except (TypeError, ValueError) as error:
            _log.warning("a kept allowed network is left out: %s", error)
