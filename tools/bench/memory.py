"""What a worker's memory of flows takes: each flow, and more of them than it may remember.

Packets go straight into an `Inspector`, in a process of its own, which is asked by the kernel's
count of resident pages: dictionaries, fragmentation and all.
"""

from __future__ import annotations

import gc
import json
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

from rich.progress import Progress
from rich.table import Table

from engine.config import Settings
from engine.inspect.inspector import Inspector
from engine.inspect.judgement import ACCEPTED, Verdict
from engine.paths import shipped_signatures
from engine.signatures import load
from tools.bench import processes
from tools.bench.options import Options
from tools.bench.result import table

TARGET_B = 600
SEEN_WITHIN_S = 60.0

_FILL_B = 3_000_000
# So many flows are open at a time.
_OPEN = 10_000
_SERVER = bytes([192, 0, 2, 1])
_CLIENT_PORT, _DNS, _TLS = 40000, 53, 443
_SYN, _SYN_ACK, _ACK, _PUSH_ACK = 0x02, 0x12, 0x10, 0x18  # TCP flags, RFC 9293
_QUERY = bytes.fromhex("123401000001000000000000") + b"\x03www\x07example\x03com\0\0\1\0\1"
_ANSWER = bytes.fromhex("123481800001000100000000") + _QUERY[12:] + bytes(16)
# The head of a TLS record with the start of a hello (RFC 8446), and one with data.
_HELLO = bytes.fromhex("160301020001") + bytes(range(1, 251)) * 2
_DATA = bytes.fromhex("1703030500") + bytes(range(1, 251)) * 5

_Flow = Callable[[bytes], list[bytes]]


@dataclass(frozen=True, slots=True)
class FlowMemory:
    """Resident bytes that each of many flows has added."""

    kind: str
    flows: int
    bytes_per_flow: float


@dataclass(frozen=True, slots=True)
class Crowd:
    """One worker with `seen` flows in a minute, of which it may remember `max_flows`."""

    max_flows: int
    seen: int
    packets: int
    remembered: int
    """Directions of flows, at the end; TCP and UDP have a limit each."""
    dropped: int
    """Packets; all are innocent."""
    empty_b: int
    """Resident before the first of them."""
    resident_b: int
    peak_b: int


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Each kind of flow, and crowds at several limits."""

    flows: list[FlowMemory]
    target_b: int
    crowds: list[Crowd]

    def tables(self) -> Iterator[Table]:
        shown = table("Memory of a flow", "flow", "flows", "each", f"of {self.target_b} B")
        for flow in self.flows:
            of_target = f"{flow.bytes_per_flow / self.target_b:.2f}"
            shown.add_row(flow.kind, f"{flow.flows:,}", f"{flow.bytes_per_flow:.0f} B", of_target)
        yield shown
        columns = ("seen", "packets", "remembered", "empty", "then", "peak", "dropped")
        shown = table("Memory of a worker, flows of a minute", "max_flows", *columns)
        for crowd in self.crowds:
            counts = (crowd.max_flows, crowd.seen, crowd.packets, crowd.remembered)
            sizes_b = (crowd.empty_b, crowd.resident_b, crowd.peak_b)
            shown.add_row(
                *(f"{each:,}" for each in counts),
                *(f"{each / 1e6:.0f} MB" for each in sizes_b),
                str(crowd.dropped),
            )
        yield shown


def measure(options: Options, progress: Progress) -> MemoryUse:
    """Each figure comes from a process of its own, once: memory has no moods."""
    limits = [Settings().max_flows, 4 * Settings().max_flows]
    task = progress.add_task("Memory", total=len(_KINDS) + len(limits))
    flows, crowds = [], []
    for kind in _KINDS:
        flows.append(FlowMemory(**_in_a_process("flows", kind, options.remembered)))
        progress.advance(task)
    for limit in limits:
        crowds.append(Crowd(**_in_a_process("crowd", limit, options.seen)))
        progress.advance(task)
    return MemoryUse(flows, TARGET_B, crowds)


def _in_a_process(*arguments: object) -> dict[str, Any]:
    told = subprocess.run(
        [sys.executable, "-m", "tools.bench.memory", *map(str, arguments)],
        check=True,
        capture_output=True,
    )
    answer: dict[str, Any] = json.loads(told.stdout)
    return answer


# --- in that process


def _udp_both_ways(client: bytes) -> list[bytes]:
    return [_datagram(client, True, _QUERY), _datagram(client, False, _ANSWER)]


def _tcp_syn(client: bytes) -> list[bytes]:
    return [_segment(client, True, 0, 0, _SYN)]


def _tcp_handshake(client: bytes) -> list[bytes]:
    return [
        *_tcp_syn(client),
        _segment(client, False, 0, 1, _SYN_ACK),
        _segment(client, True, 1, 1, _ACK),
    ]


def _tcp_hello(client: bytes) -> list[bytes]:
    hello = len(_HELLO)
    return [
        *_tcp_handshake(client),
        _segment(client, True, 1, 1, _PUSH_ACK, _HELLO),
        _segment(client, False, 1, 1 + hello, _PUSH_ACK, _HELLO),
    ]


def _tcp_complete(client: bytes) -> list[bytes]:
    hello, data = len(_HELLO), len(_DATA)
    return [
        *_tcp_hello(client),
        *(
            _segment(client, forth, 1 + hello + number * data, 1, _PUSH_ACK, _DATA)
            for number in range(8)
            for forth in (True, False)
        ),
    ]


_KINDS: dict[str, _Flow] = {
    "UDP, a datagram each way": _udp_both_ways,
    "TCP, 10 KB each way": _tcp_complete,
    "TCP, a message each way": _tcp_hello,
    "TCP, the SYN alone": _tcp_syn,
}


def _ends(client: bytes, forth: bool, port: int) -> tuple[bytes, bytes]:
    """Addresses and ports as they stand in the headers."""
    if forth:
        return client + _SERVER, struct.pack(">HH", _CLIENT_PORT, port)
    return _SERVER + client, struct.pack(">HH", port, _CLIENT_PORT)


def _datagram(client: bytes, forth: bool, payload: bytes) -> bytes:
    addresses, ports = _ends(client, forth, _DNS)
    return _ip(17, addresses, ports + struct.pack(">HH", 8 + len(payload), 0) + payload)


def _segment(
    client: bytes, forth: bool, sequence: int, acknowledged: int, flags: int, payload: bytes = b""
) -> bytes:
    addresses, ports = _ends(client, forth, _TLS)
    head = struct.pack(">IIBBHHH", sequence, acknowledged, 0x50, flags, 0xFFFF, 0, 0)
    return _ip(6, addresses, ports + head + payload)


def _ip(protocol: int, addresses: bytes, body: bytes) -> bytes:
    return struct.pack(">BBHIBBH", 0x45, 0, 20 + len(body), 0, 64, protocol, 0) + addresses + body


def _clients(first: int, count: int) -> Iterator[bytes]:
    for number in range(first, first + count):
        yield struct.pack(">I", 0x0A000000 + number)


def _empty_inspector(max_flows: int) -> tuple[Inspector, processes.Memory]:
    inspector = Inspector(load(shipped_signatures()), max_flows=max_flows)
    gc.collect()
    gc.freeze()  # as a worker does
    return inspector, processes.memory()


def _flow_memory(kind: str, flows: int) -> FlowMemory:
    inspector, _ = _empty_inspector(8 * (flows + _FILL_B // TARGET_B))
    # The first of them fill what loading the signatures has left free.
    first = _FILL_B // TARGET_B
    resident_b = []
    for clients in (_clients(0, first), _clients(first, flows)):
        for client in clients:
            for packet in _KINDS[kind](client):
                if inspector.inspect(packet, 0.0) is not ACCEPTED:
                    raise ValueError("an innocent packet was not accepted")
        resident_b.append(processes.memory().resident_b)
    return FlowMemory(kind, flows, (resident_b[1] - resident_b[0]) / flows)


def _crowd(max_flows: int, seen: int) -> Crowd:
    inspector, before = _empty_inspector(max_flows)
    packets = dropped = 0
    for first in range(0, seen, _OPEN):
        clients = _clients(first, min(_OPEN, seen - first))
        flows = [
            _udp_both_ways(client) if number % 2 else _tcp_hello(client)
            for number, client in enumerate(clients)
        ]
        now_s, gap_s = SEEN_WITHIN_S * first / seen, SEEN_WITHIN_S / seen
        longest = max(map(len, flows))
        # The first packet of all, then the second: so many conversations at once.
        turns = (flow[turn : turn + 1] for turn in range(longest) for flow in flows)
        for packet in chain.from_iterable(turns):
            dropped += inspector.inspect(packet, now_s).verdict is Verdict.DROP
            now_s += gap_s / longest
            packets += 1
    after = processes.memory()
    return Crowd(
        max_flows,
        seen,
        packets,
        inspector.flows,
        dropped,
        before.resident_b,
        after.resident_b,
        after.peak_b,
    )


def _tell(what: str, which: str, count: int) -> None:
    figures = _flow_memory(which, count) if what == "flows" else _crowd(int(which), count)
    print(json.dumps(asdict(figures)))


if __name__ == "__main__":
    _tell(sys.argv[1], sys.argv[2], int(sys.argv[3]))
