"""A queue whose judge always raises, run on the router by a test."""

from __future__ import annotations

import selectors
import signal

from engine.sources.nfqueue import PacketQueue


def _judge(datagram: bytes, now_s: float) -> bool:
    raise RuntimeError("on purpose")


def _stop(*_: object) -> None:
    raise SystemExit


signal.signal(signal.SIGTERM, _stop)
with PacketQueue(0, _judge) as queue, selectors.DefaultSelector() as selector:
    selector.register(queue, selectors.EVENT_READ)
    print("bound", flush=True)
    try:
        while True:
            selector.select()
            queue.drain()
    finally:
        print("errors", queue.errors, "packets", queue.packets, flush=True)
