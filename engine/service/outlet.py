"""Writes what is told to files and sockets, each on a thread of its own.

A disk that is full, slow or gone and a terminal that is stopped hold up that thread and
nobody else. What waits is bounded; what does not fit is counted as lost.
"""

from __future__ import annotations

import threading
from enum import Enum
from queue import SimpleQueue
from typing import Generic, Protocol, TypeVar

MAX_WAITING = 4096
CLOSE_TIMEOUT_S = 2.0

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


class _Order(Enum):
    REOPEN = 1
    END = 2


class Sink(Protocol[T_contra]):
    """Where things are written. Called from one thread only."""

    def write(self, item: T_contra) -> None:
        """Write all of it or nothing. Raises OSError."""

    def reopen(self) -> None:
        """Begin a new file under the same name, if there is one. Raises OSError."""

    def close(self) -> None:
        """Let go of it."""


class Outlet(Generic[T]):
    """One sink and the thread that writes to it.

    What is put while too much waits, or while the sink fails, is lost.
    """

    def __init__(self, name: str, sink: Sink[T]) -> None:
        self.name = name
        self._failure: str | None = None
        self._sink = sink
        self._overflowed = 0
        self._unwritten = 0
        self._waiting: SimpleQueue[tuple[T] | _Order] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    @property
    def failure(self) -> str | None:
        """Why nothing can be written at present; None while all is well."""
        if self._waiting.qsize() >= MAX_WAITING:
            return "it does not keep up"
        return self._failure

    @property
    def lost(self) -> int:
        """How many items were not written."""
        # Two counters, because two threads count.
        return self._overflowed + self._unwritten

    def put(self, item: T) -> None:
        """Have something written; never waits."""
        if self._waiting.qsize() < MAX_WAITING:
            self._waiting.put((item,))
        else:
            self._overflowed += 1

    def reopen(self) -> None:
        """Go on in a new file, after what waits has been written to the old one."""
        self._waiting.put(_Order.REOPEN)

    def close(self) -> None:
        """Write what waits, for at most CLOSE_TIMEOUT_S, and end."""
        self._waiting.put(_Order.END)
        self._thread.join(CLOSE_TIMEOUT_S)

    def _work(self) -> None:
        while (entry := self._waiting.get()) is not _Order.END:
            try:
                if entry is _Order.REOPEN:
                    self._sink.reopen()
                else:
                    self._sink.write(entry[0])
                self._failure = None
            except OSError as error:
                self._unwritten += entry is not _Order.REOPEN
                self._failure = error.strerror or str(error)
        self._sink.close()
