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

from engine.inspect.flow import DEFAULT_MAX_FLOWS
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
# Some are repeated with every flow there is room for.
FLOWS = 20_000


def _packet(chance: random.Random) -> bytes:
    payload = chance.choice(EXAMPLES)
    source, destination = (A, B) if chance.random() < 0.7 else (A6, B6)
    ports = chance.randrange(FLOWS), 6881
    if chance.random() < 0.5:
        ports = ports[::-1]
        source, destination = destination, source
    if chance.random() < 0.5:
        return udp(source, ports[0], destination, ports[1], payload)
    flags = chance.choice((ACK, ACK, ACK, SYN, SYN | ACK, 0xFF))
    sequence, acknowledged = chance.randrange(3000), chance.randrange(3000)
    header = struct.pack(">HHIIBBHHH", *ports, sequence, acknowledged, 0x50, flags, 99, 0, 0)
    return ip(source, destination, 6, header + payload)


def _mutated(chance: random.Random) -> bytes:
    """A packet with a few changes, wherever they fall: in the headers, in the payload."""
    data = bytearray(_packet(chance))
    for _ in range(chance.randrange(4)):
        at = chance.randrange(len(data))
        match chance.randrange(5):
            case 0:
                data[at] = chance.randrange(256)
            case 1:
                data[at] ^= 1 << chance.randrange(8)
            case 2:
                data[at:at] = chance.randbytes(chance.randrange(1, 9))
            case 3:
                del data[at : at + chance.randrange(1, 9)]
            case 4:
                del data[max(at, 1) :]
        if not data:
            break
    return bytes(data)


def main(seed: int, count: int) -> None:
    chance = random.Random(seed)
    inspector = Inspector(SHIPPED)
    detected = harmed = 0
    for number in range(count):
        judgement = inspector.inspect(_mutated(chance), number / 1000)
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
