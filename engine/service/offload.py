"""Which connections are left to the kernel: a worker marks them, the daemon takes marks back.

A mark changes nothing of what is detected: a direction is released when nothing is looked for in
it any longer, and a refused connection is one whose packets would all be dropped. So whenever that
may have changed (other signatures, a ban, an allowed network) the marks are taken back, and who is
asked about the next packets sets them again.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterable

from engine.config import Network
from engine.enforce.connmark import ConnectionMarks, MarkBits
from engine.enforce.enforcement import PacketPath
from engine.errors import UnavailableError
from engine.inspect.packet import TCP, UDP, decode

# Of the packets of connections that are refused already, one in so many tries again.
_REFUSE_AGAIN = 16
# Between two times that marks are taken back; it means a look at all connections.
_PAUSE_S = 0.5
# With more, those of everybody are.
_MAX_TARGETS = 1000

_log = logging.getLogger(__name__)


class Offload:
    """Marks the connections of packets that a worker has judged."""

    def __init__(self, mark_bits: int) -> None:
        """Of 0, marks none. Without connection tracking it says so once, and marks none."""
        self.released = 0
        self.refused = 0
        self._dropped = 0
        self._marks: ConnectionMarks | None = None
        if mark_bits:
            try:
                self._marks = ConnectionMarks(MarkBits.of(mark_bits))
            except UnavailableError as error:
                self._give_up(error)

    def release(self, datagram: bytes) -> None:
        """Let what the receiver of a packet sends in its connection pass without us."""
        if self._marks is None or _transport(datagram) != TCP:
            return
        packet = decode(datagram)
        if packet is None:
            return
        try:
            self.released += self._marks.release(packet.key, TCP)
        except UnavailableError as error:
            self._give_up(error)

    def refuse(self, datagram: bytes, *, at_once: bool) -> None:
        """Have the kernel drop a packet's connection, `at_once` or, maybe, with a later packet.

        One of which the kernel has not seen a packet pass is not marked yet.
        """
        self._dropped += 1
        if self._marks is None or not (at_once or self._dropped % _REFUSE_AGAIN == 0):
            return
        protocol = _transport(datagram)
        packet = decode(datagram)
        if protocol is None or packet is None:
            return
        try:
            self.refused += self._marks.refuse(packet.key, protocol)
        except UnavailableError as error:
            self._give_up(error)

    def _give_up(self, error: UnavailableError) -> None:
        _log.warning("connections are not left to the kernel: %s", error)
        self._marks = None


def _transport(datagram: bytes) -> int | None:
    """TCP or UDP; None for a tunnel with such a packet inside, whose connection is another one."""
    protocol = datagram[9] if datagram[0] >> 4 == 4 else datagram[6]
    return protocol if protocol in (TCP, UDP) else None


class OffloadedPath:
    """The workers, and what passes or is dropped without them: the marks are taken back in time.

    A context manager. When it opens and closes no mark is left; in between a thread of its own
    takes back what must be. To be closed when the rules are gone.
    """

    def __init__(self, workers: PacketPath, mark_bits: int) -> None:
        self._workers = workers
        self._bits = MarkBits.of(mark_bits)
        self._changed = threading.Condition()
        self._targets: set[bytes] = set()
        self._released = self._refused = True
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="offload", daemon=True)

    def __enter__(self) -> OffloadedPath:
        self._take_back()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closing = self._released = self._refused = True
            self._changed.notify()
        self._thread.join()
        self._take_back()

    def ban(self, target: bytes, expires_ns: int) -> None:
        """Tell the workers, and have them see what goes by of the banned one's."""
        self._workers.ban(target, expires_ns)
        with self._changed:
            self._targets.add(target)
            if len(self._targets) > _MAX_TARGETS:
                self._targets.clear()
                self._released = True
            self._changed.notify()

    def unban(self, target: bytes) -> None:
        """Tell the workers. The connection that was the reason stays refused."""
        self._workers.unban(target)

    def allow_only(self, networks: Iterable[Network]) -> None:
        """Tell the workers, and have them judge again what is refused."""
        self._workers.allow_only(networks)
        with self._changed:
            self._refused = True
            self._changed.notify()

    def inspect_again(self) -> None:
        """Other signatures are in force: they may look for something in what goes by."""
        with self._changed:
            self._released = True
            self._changed.notify()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._closing or self._released or self._refused or self._targets
                )
                if self._closing:
                    return
            self._take_back()
            with self._changed:
                self._changed.wait_for(lambda: self._closing, _PAUSE_S)

    def _take_back(self) -> None:
        with self._changed:
            released, refused, targets = self._released, self._refused, self._targets
            self._released = self._refused = False
            self._targets = set()
        try:
            with contextlib.closing(ConnectionMarks(self._bits)) as marks:
                if released:
                    marks.forget_released()
                elif targets:
                    marks.forget_released(targets)
                if refused:
                    marks.forget_refused()
        except UnavailableError as error:
            _log.warning("connections that were left to the kernel stay so: %s", error)
