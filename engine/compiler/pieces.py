"""A RuleSet in a file, in pieces: another process takes them in one by one between packets.

What is large or numerous in it comes first, a bounded number in each piece; the last piece is
the rest, which refers to it. The pieces are pickles, one after the other.
"""

from __future__ import annotations

import io
import pickle
from typing import Any, BinaryIO

from engine.compiler.database import Database
from engine.compiler.ruleset import Rule, RuleSet
from engine.compiler.statistics import SignatureStatistics

# Taking in a rule costs some 10 µs.
_PER_PIECE = 200
_APART = (Database, Rule, SignatureStatistics)


class _Pickler(pickle.Pickler):
    """Leaves out what comes first, and keeps it in `left_out`."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self.left_out: list[object] = []

    def persistent_id(self, obj: object) -> int | None:
        if not isinstance(obj, _APART):
            return None
        self.left_out.append(obj)
        return len(self.left_out) - 1


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: BinaryIO, left_out: list[Any]) -> None:
        super().__init__(file)
        self._left_out = left_out

    def persistent_load(self, pid: int) -> Any:
        return self._left_out[pid]


def write_pieces(ruleset: RuleSet, file: BinaryIO) -> None:
    """Take a RuleSet apart, for `Assembly` in a process of the same program."""
    rest = io.BytesIO()
    pickler = _Pickler(rest)
    pickler.dump(ruleset)
    for start in range(0, len(pickler.left_out), _PER_PIECE):
        batch = pickler.left_out[start : start + _PER_PIECE]
        pickle.dump(batch, file, pickle.HIGHEST_PROTOCOL)
    file.write(rest.getvalue())


class Assembly:
    """Puts a RuleSet together again."""

    def __init__(self, file: BinaryIO) -> None:
        """Read from where the file stands."""
        self._file = file
        self._left_out: list[Any] = []

    def next(self) -> RuleSet | None:
        """Take the next piece; gives the RuleSet with the last one."""
        loaded = _Unpickler(self._file, self._left_out).load()
        if isinstance(loaded, RuleSet):
            return loaded
        self._left_out += loaded
        return None
