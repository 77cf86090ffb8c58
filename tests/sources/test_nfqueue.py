"""Each packet of a real queue gets its own verdict, and in time, however many share a message."""

from __future__ import annotations

import contextlib
import random
import select
from collections.abc import Callable, Iterable, Iterator

import pytest

from engine.sources import nfqueue
from engine.sources.nfqueue import PacketQueue
from engine.sources.verdicts import AT_ONCE
from tests.service.traffic import Datagrams
from tools.lab.namespace import call_in
from tools.lab.topology import Topology

pytestmark = pytest.mark.lab

NUMBER = 7
HEADERS_B = 28
WAIT_S = 2.0
# Of packets so small, in a receiving buffer of the default size.
FIT_A_SOCKET = 200

Judge = Callable[[bytes, float], bool]


class Gateway:
    """A queue in this process, and traffic through it."""

    def __init__(self, queue: PacketQueue, datagrams: Datagrams) -> None:
        self.queue = queue
        self._datagrams = datagrams

    def send(self, numbers: Iterable[int]) -> None:
        """Send a datagram for each number; they wait in the queue then."""
        address = self._datagrams.server.getsockname()[:2]
        for number in numbers:
            self._datagrams.client.sendto(number.to_bytes(2, "big"), address)

    def drain(self, until: int) -> None:
        """Judge what waits, until so many packets are judged."""
        while self.queue.packets < until:
            assert select.select([self.queue], [], [], WAIT_S)[0], "packets do not come"
            self.queue.drain()

    def arrived(self) -> list[int]:
        """What the server has received since the last time."""
        numbers = []
        with contextlib.suppress(TimeoutError):
            while True:
                numbers.append(int.from_bytes(self._datagrams.server.recv(64), "big"))
        return numbers


def number_of(datagram: bytes) -> int:
    return int.from_bytes(datagram[HEADERS_B:], "big")


@contextlib.contextmanager
def gateway(judge: Judge) -> Iterator[Gateway]:
    rule = ["-A", "FORWARD", "-p", "udp", "-j", "NFQUEUE", "--queue-num", str(NUMBER)]
    with (
        Topology((4,)) as topology,
        Datagrams(topology) as datagrams,
        call_in(topology.router.name, lambda: PacketQueue(NUMBER, judge)) as queue,
    ):
        topology.router.run(["iptables", "-w", *rule])
        yield Gateway(queue, datagrams)


def test_each_packet_gets_its_own_verdict() -> None:
    dice = random.Random(5)
    # Runs of all lengths up to twice what one message decides.
    drops = [
        drop
        for _ in range(8)
        for drop in (False, True)
        for _ in range(dice.randrange(1, 2 * AT_ONCE))
    ]

    def judge(datagram: bytes, _: float) -> bool:
        if number_of(datagram) % 50 == 49:
            raise ValueError("a mistake of ours")
        return drops[number_of(datagram)]

    with gateway(judge) as router:
        arrived = []
        for first in range(0, len(drops), FIT_A_SOCKET):
            last = min(first + FIT_A_SOCKET, len(drops))
            router.send(range(first, last))
            router.drain(until=last)
            arrived += router.arrived()
        expected = [n for n, drop in enumerate(drops) if not drop or n % 50 == 49]
        assert arrived == expected
        assert router.queue.dropped == len(drops) - len(expected)
        assert router.queue.errors == len(drops) // 50


def test_no_packet_waits_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nfqueue, "MAX_BUSY_S", 0.0)  # so that each drain ends early
    with gateway(lambda *_: False) as router:
        for judged in (1, 2, 3):
            router.send([0])
            router.drain(until=judged)
            assert router.arrived() == [0]
        router.send(range(3 * AT_ONCE))
        router.drain(until=3 + AT_ONCE // 2)
        assert router.arrived() == list(range(router.queue.packets - 3))
        assert router.queue.packets < 3 + 3 * AT_ONCE
