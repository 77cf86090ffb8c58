"""The daemon's one thread: what it waits for, what it does now and then, what others ask of it."""

from __future__ import annotations

import contextlib
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")


class _Repeated:
    """A call, and when it is due again."""

    def __init__(self, interval_s: Callable[[], float], call: Callable[[], None]) -> None:
        self._interval_s = interval_s
        self._call = call
        self.due_s = time.monotonic() + interval_s()

    def run(self, now_s: float) -> None:
        if now_s >= self.due_s:
            self.due_s = now_s + self._interval_s()
            self._call()


class Loop:
    """Calls things on the thread that runs it, one after the other, so that they need no lock.

    Who registers something with `selector` gives a function without arguments as its `data`, which
    is called when it becomes readable.
    """

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self._stopping = False
        self._repeated: list[_Repeated] = []
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._wake_read, self._wake_write = socket.socketpair()
        for end in (self._wake_read, self._wake_write):
            end.setblocking(False)
        self.selector.register(self._wake_read, selectors.EVENT_READ, self._woken)

    def close(self) -> None:
        """Wait for nothing any more."""
        self.selector.close()
        self._wake_read.close()
        self._wake_write.close()

    def run(self) -> None:
        """Until `stop`."""
        while not self._stopping:
            due_s = min((repeated.due_s for repeated in self._repeated), default=None)
            patience_s = None if due_s is None else max(0.0, due_s - time.monotonic())
            for key, _ in self.selector.select(patience_s):
                key.data()
            now_s = time.monotonic()
            for repeated in self._repeated:
                repeated.run(now_s)

    def stop(self) -> None:
        """End `run` after what it does now."""
        self._stopping = True

    def every(self, interval_s: Callable[[], float], call: Callable[[], None]) -> None:
        """Make a call now and then; how often is asked each time."""
        self._repeated.append(_Repeated(interval_s, call))

    def post(self, call: Callable[[], None]) -> None:
        """Have a call made soon. For other threads, and for signal handlers."""
        self._calls.put(call)
        with contextlib.suppress(OSError):  # full: it will wake anyway; closed: it has ended
            self._wake_write.send(b"\0")

    def ask(self, answer: Callable[[], T], timeout_s: float) -> T:
        """Have a call made soon, and wait for what it gives or raises. For other threads.

        Raises TimeoutError.
        """
        answered: Future[T] = Future()

        def call() -> None:
            try:
                answered.set_result(answer())
            except Exception as error:
                answered.set_exception(error)

        self.post(call)
        return answered.result(timeout=timeout_s)

    @contextlib.contextmanager
    def signals(self, calls: Mapping[signal.Signals, Callable[[], None]]) -> Iterator[None]:
        """While the block lasts, signals of the process are calls."""
        previous = {
            number: signal.signal(number, lambda *_, call=call: self.post(call))
            for number, call in calls.items()
        }
        old_wakeup = signal.set_wakeup_fd(self._wake_write.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(old_wakeup)
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _woken(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_read.recv(4096)
        while not self._calls.empty():
            self._calls.get()()
