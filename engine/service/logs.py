"""The log for people on standard error, of the daemon and of every process that works for it.

Written by a thread of its own: a terminal that is stopped or a journal that hangs must not
hold up packets or bans.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator

from engine.service.outlet import Outlet
from engine.service.sinks import StandardStream


class _Handler(logging.Handler):
    def __init__(self, outlet: Outlet[bytes]) -> None:
        super().__init__()
        self._outlet = outlet
        self._lost_told = 0

    def emit(self, record: logging.LogRecord) -> None:
        lost = self._outlet.lost - self._lost_told
        if lost and self._outlet.failure is None:
            self._lost_told += lost
            self._outlet.put(b"WARNING %d entries of this log were lost\n" % lost)
        self._outlet.put(f"{self.format(record)}\n".encode(errors="backslashreplace"))


@contextlib.contextmanager
def logging_to_stderr(level: str) -> Iterator[None]:
    """Log while the block lasts, with times unless a journal adds its own."""
    under_journal = "JOURNAL_STREAM" in os.environ
    outlet = Outlet("log", StandardStream("stderr"))
    handler = _Handler(outlet)
    logging.basicConfig(
        level=level,
        format="%(levelname)s %(message)s"
        if under_journal
        else "%(asctime)s %(levelname)s %(message)s",
        handlers=[handler],
    )
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        outlet.close()
