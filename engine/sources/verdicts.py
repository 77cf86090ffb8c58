"""Verdicts on the packets of a netfilter queue, one message to the kernel for many of them."""

from __future__ import annotations

import logging
import os
import socket
import struct

# So many packets at most wait for their verdict to be sent; a power of two.
AT_ONCE = 32

# include/uapi/linux/netfilter.h, netfilter/nfnetlink.h, netfilter/nfnetlink_queue.h
_DROP, _ACCEPT = 0, 1
_VERDICT_BATCH = 3 << 8 | 3  # NFNL_SUBSYS_QUEUE, NFQNL_MSG_VERDICT_BATCH
_VERDICT_HDR = 2
_REQUEST = 1
_MESSAGE = struct.Struct("=IHHII BB2s HH4s4s")

_log = logging.getLogger(__name__)


class Verdicts:
    """Gathers verdicts on packets in the order of their ids, which the kernel counts up.

    The kernel gives a verdict to all packets up to an id that have none yet. So those that
    follow each other with the same verdict need one message, and it is sent at the latest with
    the AT_ONCE-th: a `send` must follow when no packet waits any more.
    """

    def __init__(self, descriptor: int, number: int) -> None:
        """For the queue of this number, bound on the netlink socket of this descriptor."""
        self._netlink = socket.socket(fileno=os.dup(descriptor))
        self._number = struct.pack(">H", number)
        self._drops = False
        self._last_id: int | None = None

    def close(self) -> None:
        """Send no more."""
        self._netlink.close()

    def give(self, packet_id: int, drop: bool) -> None:
        """Say what becomes of a packet."""
        if drop is not self._drops:
            self.send()
            self._drops = drop
        self._last_id = packet_id
        if not packet_id & AT_ONCE - 1:
            self.send()

    def send(self) -> None:
        """Tell the kernel what it has not been told."""
        if self._last_id is None:
            return
        verdict = _DROP if self._drops else _ACCEPT
        try:
            self._netlink.send(
                _MESSAGE.pack(
                    *(_MESSAGE.size, _VERDICT_BATCH, _REQUEST, 0, 0),
                    *(socket.AF_UNSPEC, 0, self._number),
                    *(12, _VERDICT_HDR),
                    *(verdict.to_bytes(4, "big"), self._last_id.to_bytes(4, "big")),
                )
            )
        except OSError as error:  # no memory; the next message is for these packets as well
            _log.warning("packets wait longer for their verdict: %s", error)
        self._last_id = None
