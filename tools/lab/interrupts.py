"""Ctrl-C and SIGTERM, held back while something must not be cut short."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Let them wait until the block has ended, then raise KeyboardInterrupt for them."""
    if threading.current_thread() is not threading.main_thread():  # never interrupted
        yield
        return
    received: list[tuple[int, FrameType | None]] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    old = {
        number: signal.signal(number, lambda *details: received.append(details))
        for number in numbers
    }
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
    if received:
        raise KeyboardInterrupt
