"""Inspects mutations of what signatures look for, innocent packets between them.

python -m tests.reliability.mutations SEED COUNT

Prints in JSON how many were detected, how many innocent packets were dropped, and the memory at
its most. Whatever the inspector raises ends it.
"""

from __future__ import annotations

import json
import random
import resource
import struct
import sys
from collections.abc import Callable

from engine.config import DEFAULT_MAX_FLOWS
from engine.inspect.inspector import Inspector
from engine.inspect.judgement import Verdict
from engine.inspect.packet import ACK, SYN
from engine.paths import shipped_signatures
from engine.signatures import load
from tests.captures import ip, udp

A, B = "192.0.2.1", "192.0.2.2"
A6, B6 = "2001:db8::1", "2001:db8::2"
# With every guess in force.
SHIPPED = load(shipped_signatures(), profile="strict")
EXAMPLES = sorted(
    {
        payload
        for signature in (*SHIPPED.signatures, *SHIPPED.disabled)
        for test in signature.tests
        for payload in ([test.payload] if not test.turns else [p for t in test.turns for p in t])
    }
)
# No mutation gets to these addresses.
INNOCENTS = [udp("198.51.100.7", 4000, "203.0.113.9", 443, bytes([n]) * 30) for n in range(16)]
INNOCENT_EVERY = 50
ORIGINALS = 10_000


def _original(chance: random.Random) -> bytes:
    """A packet with something that signatures look for, of either transport and IP version."""
    payload = chance.choice(EXAMPLES)
    source, destination = (A, B) if chance.random() < 0.7 else (A6, B6)
    ports = chance.randrange(65536), 6881
    if chance.random() < 0.5:
        ports = ports[::-1]
        source, destination = destination, source
    if chance.random() < 0.5:
        return udp(source, ports[0], destination, ports[1], payload)
    flags = chance.choice((ACK, ACK, ACK, SYN, SYN | ACK, 0xFF))
    sequence, acknowledged = chance.randrange(3000), chance.randrange(3000)
    header = struct.pack(">HHIIBBHHH", *ports, sequence, acknowledged, 0x50, flags, 99, 0, 0)
    return ip(source, destination, 6, header + payload)


def _mutated(original: bytes, chance: Callable[[], float]) -> bytes:
    """The packet with up to three changes, wherever they fall: in the headers, in the payload."""
    data = bytearray(original)
    # The source port of IPv4: not all packets shall be of flows that are dropped already.
    data[20] = int(chance() * 256)
    for _ in range(int(chance() * 4)):
        at = int(chance() * len(data))
        match int(chance() * 5):
            case 0:
                data[at] = int(chance() * 256)
            case 1:
                data[at] ^= 1 << int(chance() * 8)
            case 2:
                data[at:at] = bytes([int(chance() * 256)]) * int(chance() * 9)
            case 3:
                del data[at : at + 1 + int(chance() * 8)]
            case 4:
                del data[max(at, 9) :]
    return bytes(data)


def main(seed: int, count: int) -> None:
    chance = random.Random(seed)
    inspector = Inspector(SHIPPED)
    originals = [_original(chance) for _ in range(ORIGINALS)]
    detected = harmed = 0
    for number in range(count):
        judgement = inspector.inspect(
            _mutated(originals[number % ORIGINALS], chance.random), number / 1000
        )
        detected += bool(judgement.detections)
        stops = any(d.action in ("block", "drop") for d in judgement.detections)
        assert judgement.verdict is Verdict.DROP or not stops
        if number % INNOCENT_EVERY == 0:
            innocent = INNOCENTS[number // INNOCENT_EVERY % len(INNOCENTS)]
            harmed += inspector.inspect(innocent, number / 1000).verdict is Verdict.DROP
    assert inspector.flows <= 2 * DEFAULT_MAX_FLOWS
    resident_b = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"detected": detected, "harmed": harmed, "resident_b": resident_b}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
