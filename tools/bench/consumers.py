"""What takes the packets from the router's queue: nothing, a C loop, or btblocker."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tools.bench.native import build
from tools.lab.blocker import run_blocker
from tools.lab.program import Program
from tools.lab.topology import Topology

QUEUE_NUMBER = 0
_COPY_B = 2048
_RULE = f"FORWARD -j NFQUEUE --queue-num {QUEUE_NUMBER} --queue-bypass"
_READY_TIMEOUT_S = 10.0
ALL_INSPECTED = "--no-offload"
"""With it no flow is handed back to the kernel."""
_QUEUE_ALONE = ("--xdp-mode", "off")


@dataclass(frozen=True, slots=True)
class QueueCounters:
    """The queue's row in /proc/net/netfilter/nfnetlink_queue, since the queue was made."""

    consumed: int
    """Packets that were handed over and have their verdict."""
    lost: int
    """Packets dropped because the queue or the socket's buffer was full."""


def queue_counters(program: Program) -> QueueCounters:
    """Read the counters in the namespace of `program`."""
    table = Path(f"/proc/{program.process.pid}/net/netfilter/nfnetlink_queue").read_text()
    for line in table.splitlines():
        # number, socket, waiting, copy mode and range, two losses, last packet's id, 1
        words = [int(word) for word in line.split()]
        if words[0] == QUEUE_NUMBER:
            waiting, queue_dropped, user_dropped, last_id = words[2], words[5], words[6], words[7]
            return QueueCounters(last_id - waiting - user_dropped, queue_dropped + user_dropped)
    return QueueCounters(0, 0)


Consumer = Callable[[Topology], AbstractContextManager[Program | None]]


@contextmanager
def no_queue(topology: Topology) -> Iterator[None]:
    """The router alone."""
    yield None


@contextmanager
def accept_loop(topology: Topology) -> Iterator[Program]:
    """A C loop over libnetfilter_queue that accepts and looks at nothing."""
    program = topology.spawn(
        topology.router,
        [build("accept_loop", topology.folder), str(QUEUE_NUMBER), str(_COPY_B)],
        name="accept_loop",
    )
    program.wait_for(lambda: _bound(program), _READY_TIMEOUT_S)
    topology.router.run(["iptables", "-w", "-t", "mangle", "-A", *shlex.split(_RULE)])
    yield program
    program.require_alive()
    topology.router.run(["iptables", "-w", "-t", "mangle", "-D", *shlex.split(_RULE)])
    program.stop()


def btblocker(*options: str) -> Consumer:
    """The daemon as a user runs it, without its XDP tier: nothing is banned here."""

    @contextmanager
    def consumer(topology: Topology) -> Iterator[Program]:
        with run_blocker(topology, *_QUEUE_ALONE, *options) as blocker:
            yield blocker.program

    return consumer


def _bound(program: Program) -> bool:
    table = Path(f"/proc/{program.process.pid}/net/netfilter/nfnetlink_queue").read_text()
    return any(int(line.split()[0]) == QUEUE_NUMBER for line in table.splitlines())
