"""Packets from a netfilter queue: the only file that touches the NetfilterQueue binding.

Its traps: a callback that raises leaves its packet without a verdict, and a packet without
a verdict stalls its flow, so nothing may raise before the verdict is given; a copy range
over 3900 overflows its receive buffer; the default socket buffer loses bursts long before
the queue is full.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import UnavailableError
from engine.sources.latency import Latency
from engine.sources.verdicts import Verdicts

# Enough for the longest headers and all that is kept of a stream's start behind them.
COPY_RANGE_B = 2048 + 256
QUEUE_LENGTH = 8192
# One queued packet takes its bytes and the kernel's bookkeeping, counted twice.
SOCKET_BUFFER_B = 16 * 1024 * 1024
# How long packets may keep the process from its other duties.
MAX_BUSY_S = 0.05
# How long a packet took is measured no more often than this.
SAMPLE_S = 0.001

# include/uapi/linux/netfilter/nfnetlink.h, nfnetlink_queue.h
_CONFIG = 3 << 8 | 2  # NFNL_SUBSYS_QUEUE, NFQNL_MSG_CONFIG
_CFG_MASK, _CFG_FLAGS = 4, 5
_FAIL_OPEN, _GSO = 1, 4
_REQUEST_ACK = 1 | 4  # NLM_F_REQUEST | NLM_F_ACK
_NLMSG_ERROR = 2

PROC_STATISTICS = Path("/proc/net/netfilter/nfnetlink_queue")

_STILL_WORKS = "What works without: `btblocker check`, and `tools/sigtest CAPTURE` on captures"

_log = logging.getLogger(__name__)


class _BusyLongEnough(Exception):  # noqa: N818 - control flow, raised after the verdict
    pass


@dataclass(frozen=True, slots=True)
class KernelCounters:
    """A queue's row in /proc/net/netfilter/nfnetlink_queue.

    `waiting` packets are queued now; `queue_dropped` were lost because the queue was full,
    `user_dropped` because the socket's buffer was.
    """

    waiting: int
    queue_dropped: int
    user_dropped: int


def kernel_counters(number: int) -> KernelCounters:
    """What the kernel counts for a queue; zeros where nobody is bound to it."""
    for line in PROC_STATISTICS.read_text().splitlines():
        columns = [int(column) for column in line.split()]
        if columns[0] == number:
            return KernelCounters(columns[2], columns[5], columns[6])
    return KernelCounters(0, 0, 0)


class PacketQueue:
    """One bound queue; each packet gets exactly one verdict.

    `judge(datagram, now_s)` says whether to drop. If it raises, the packet is accepted and
    the error counted: a mistake of ours must not cut off anybody's traffic. What a full queue
    cannot take passes if `fail_open`, and is dropped otherwise.

    `latency` tells of some packets how long they took from being read to their verdict.
    """

    def __init__(
        self, number: int, judge: Callable[[bytes, float], bool], *, fail_open: bool = True
    ) -> None:
        """Bind. Raises UnavailableError when the queue is taken or cannot be had."""
        self.number = number
        self.packets = 0
        self.dropped = 0
        self.errors = 0
        self.latency = Latency()
        self._yield_at = self._sample_at = self._look_up_at = 0.0
        self._queue = _open(number, self._callback(judge), _GSO | (_FAIL_OPEN if fail_open else 0))
        self._verdicts = Verdicts(int(self._queue.get_fd()), number)

    def __enter__(self) -> PacketQueue:
        return self

    def __exit__(self, *_: object) -> None:
        self._verdicts.close()
        self._queue.unbind()

    def fileno(self) -> int:
        """The netlink socket, readable when packets wait."""
        return int(self._queue.get_fd())

    def drain(self) -> None:
        """Judge the packets that wait, for at most about MAX_BUSY_S seconds."""
        self._yield_at = time.monotonic() + MAX_BUSY_S
        self._look_up_at = min(self._yield_at, self._sample_at)
        try:
            with contextlib.suppress(_BusyLongEnough):
                self._queue.run(block=False)
        finally:
            self._verdicts.send()

    def _callback(self, judge: Callable[[bytes, float], bool]) -> Callable[[Any], None]:
        monotonic = time.monotonic

        def on_packet(packet: Any) -> None:
            self.packets += 1
            now_s = monotonic()
            try:
                drop = judge(packet.get_payload(), now_s)
            except Exception:
                drop = False
                self.errors += 1
                if self.errors & (self.errors - 1) == 0:  # the 1st, 2nd, 4th, 8th ...
                    _log.exception("packet accepted unjudged (%d so far)", self.errors)
            if drop:
                self.dropped += 1
            self._verdicts.give(packet.id, drop)
            # One comparison for both occasions: most packets are neither.
            if now_s > self._look_up_at:
                self._look_up(now_s)

        return on_packet

    def _look_up(self, began_s: float) -> None:
        """Measure the packet that has its verdict now, and see whether to go on."""
        now_s = time.monotonic()
        self.latency.observe(now_s - began_s)
        self._sample_at = now_s + SAMPLE_S
        self._look_up_at = min(self._yield_at, self._sample_at)
        if now_s > self._yield_at:
            raise _BusyLongEnough


def load_binding() -> None:
    """Import it now if it is there, and not when a queue is opened."""
    with contextlib.suppress(ImportError):
        import netfilterqueue  # noqa: F401


def _open(number: int, callback: Callable[[Any], None], flags: int) -> Any:
    try:
        from netfilterqueue import COPY_PACKET, NetfilterQueue
    except ImportError as error:
        raise UnavailableError(
            f"the Python package NetfilterQueue is not installed: run `make setup`. {_STILL_WORKS}"
        ) from error
    try:
        queue = NetfilterQueue()
    except OSError as error:
        raise UnavailableError(
            f"Failed to open NFQUEUE {number}: it needs root and a kernel with NFQUEUE ({error}). "
            f"{_STILL_WORKS}"
        ) from error
    try:
        queue.bind(
            number,
            callback,
            max_len=QUEUE_LENGTH,
            mode=COPY_PACKET,
            range=COPY_RANGE_B,
            sock_len=SOCKET_BUFFER_B,
        )
    except OSError as error:
        raise UnavailableError(
            f"Failed to open NFQUEUE {number}: another program listens on it "
            f"(see {PROC_STATISTICS}); stop that one or choose another --queue-num"
        ) from error
    _set_flags(int(queue.get_fd()), number, flags)
    return queue


def _set_flags(descriptor: int, number: int, flags: int) -> None:
    """Say whether a full queue is open, and super-packets are left whole.

    The binding has no call for it, so the message goes over its own socket. A kernel that
    refuses is one that drops and cuts up: slower, and told.
    """
    attributes = b"".join(
        struct.pack("=HH", 8, kind) + struct.pack(">I", flags) for kind in (_CFG_MASK, _CFG_FLAGS)
    )
    body = struct.pack(">BBH", socket.AF_UNSPEC, 0, number) + attributes
    message = struct.pack("=IHHII", 16 + len(body), _CONFIG, _REQUEST_ACK, 0, 0) + body
    with socket.socket(fileno=os.dup(descriptor)) as netlink:
        netlink.send(message)
        # Packets may be waiting already: those are the binding's to read. It passes over an
        # acknowledgement that comes behind them.
        kind, error = struct.unpack_from("=4xH10xi", netlink.recv(64, socket.MSG_PEEK))
        if kind == _NLMSG_ERROR:
            netlink.recv(4096)
            if error:
                _log.warning("queue %d: no fail-open and GSO: %s", number, os.strerror(-error))
