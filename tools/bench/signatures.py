"""Many signatures: how long they take to compile, what they weigh, what clean packets pay."""

from __future__ import annotations

import random
import resource
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.compiler.ruleset import RuleSet
from engine.inspect.inspector import Inspector
from engine.inspect.judgement import ACCEPTED
from engine.paths import shipped_signatures
from engine.selftest import self_test
from engine.signatures import load

SIGNATURES = 10_000
_PER_FILE = 200
_PAYLOADS_B = (64, 200, 1000)
_PACKETS = 2000
_FLOWS = 64


@dataclass(frozen=True, slots=True)
class Loading:
    """One set of signatures: seconds for each step, bytes of memory beside the shipped set."""

    signatures: int
    load_s: float
    self_test_s: float
    databases_b: int
    resident_b: int
    need_python: int


@dataclass(frozen=True, slots=True)
class CleanCost:
    """Nanoseconds for a packet that nothing matches, a figure for each run."""

    transport: str
    payload_b: int
    shipped_ns: list[float]
    many_ns: list[float]

    @property
    def ratio(self) -> float:
        """Of the many signatures to the shipped ones, runs beside each other."""
        return statistics.median(
            many / shipped for many, shipped in zip(self.many_ns, self.shipped_ns, strict=True)
        )


def _words(chance: random.Random, low: int, high: int) -> str:
    return "".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randint(low, high)))


def _bytes(chance: random.Random, count: int) -> str:
    return chance.randbytes(count).hex(" ")


# Each kind: transport, patterns, condition, a payload that matches.
_Written = tuple[str, str, str, str]


def _text(chance: random.Random) -> _Written:
    word = _words(chance, 8, 24)
    return chance.choice(["udp", "tcp"]), f'$a = "{word}"', "$a", f'"x{word}"'


def _placed_text(chance: random.Random) -> _Written:
    word, end = _words(chance, 4, 16), chance.randint(8, 64)
    place = chance.choice(["at 0", f"in 0..{end}"])
    return chance.choice(["udp", "tcp"]), f'$a = "{word}" nocase', f"$a {place}", f'"{word}"'


def _hex(chance: random.Random) -> _Written:
    first, last = _bytes(chance, 5), _bytes(chance, 3)
    body = f"{{ {first} ?? [0-4] {last} }}"
    return "udp", f"$a = {body}", f"$a in 0..{chance.randint(4, 32)}", f"{{{first} 00 {last}}}"


def _regex(chance: random.Random) -> _Written:
    word, other = _words(chance, 5, 9), _words(chance, 5, 9)
    return "tcp", f"$a = /{word}[0-9]{{1,4}}[ ;]{other}/", "$a", f'"{word}12 {other}"'


def _integers(chance: random.Random) -> _Written:
    magic, kind = chance.getrandbits(32), chance.randint(0, 255)
    when = f"size >= 12 and u32(0) == 0x{magic:08x} and u8(4) == {kind} and u16(6) <= 512"
    return "udp", "", when, f"u32({magic}) u8({kind}) zeros(8)"


def _http(chance: random.Random) -> _Written:
    host, path = f"{_words(chance, 5, 12)}.example", f"/{_words(chance, 5, 12)}"
    when = f'http.host == "{host}" and http.path startswith "{path}"'
    return "tcp", "", when, rf'"GET {path}/x HTTP/1.1\r\nHost: {host}\r\n\r\n"'


def _dns(chance: random.Random) -> _Written:
    name = _words(chance, 8, 14)
    question = (
        rf'{{00 01 01 00 00 01 00 00 00 00 00 00}} u8({len(name)}) "{name}" {{00 00 01 00 01}}'
    )
    return "udp", "", f'dns.query == "{name}"', question


def _several(chance: random.Random) -> _Written:
    words = [_words(chance, 6, 12) for _ in range(3)]
    patterns = "\n".join(f'$a{i} = "{word}"' for i, word in enumerate(words))
    when = chance.choice(["all of them", "2 of them", "$a0 and ($a1 or $a2)", "$a0 and not $a1"])
    payload = '" "'.join([words[0], words[2]] if "not" in when else words)
    return "tcp", patterns, when, f'"{payload}"'


def _counted(chance: random.Random) -> _Written:
    word = _words(chance, 6, 12)
    return "udp", f'$a = "{word}"', "count($a) >= 3", f'"{word}{word}{word}"'


def _computed(chance: random.Random) -> _Written:
    word = _words(chance, 6, 12)
    return "udp", f'$a = "{word}"', "$a at u8(0) + 1", f'{{02 00 00}} "{word}"'


_KINDS: dict[Callable[[random.Random], _Written], int] = {
    _text: 30,
    _placed_text: 15,
    _hex: 10,
    _regex: 10,
    _integers: 10,
    _http: 8,
    _dns: 5,
    _several: 8,
    _counted: 2,
    _computed: 2,
}


def write_signatures(folder: Path, count: int, seed: int = 1) -> None:
    """Write `count` mixed signatures, each with two tests, as an author would."""
    chance = random.Random(seed)
    kinds = chance.choices(list(_KINDS), weights=list(_KINDS.values()), k=count)
    documents = [_document(number, kind(chance)) for number, kind in enumerate(kinds)]
    for start in range(0, count, _PER_FILE):
        text = "---\n".join(documents[start : start + _PER_FILE])
        (folder / f"{start:06}.yaml").write_text(text)


def _document(number: int, written: _Written) -> str:
    transport, patterns, when, payload = written
    block = "".join(f"  {line}\n" for line in patterns.splitlines())
    return (
        f"id: bench.n{number}\n"
        f"title: Signature {number}\n"
        f"scope: {{transport: {transport}}}\n"
        + (f"patterns: |\n{block}" if block else "")
        + f"when: |\n  {when}\n"
        "then: {action: log}\n"
        "tests:\n"
        f"  - expect: match\n    payload: '{payload}'\n"
        "  - {expect: no match, payload: '\"something else\"'}\n"
    )


def measure_loading(folder: Path) -> Loading:
    """Load in a process of its own, so that its memory is its own."""
    out = subprocess.run(
        [sys.executable, "-m", "tools.bench.signatures", str(folder)],
        check=True,
        capture_output=True,
        text=True,
    )
    signatures, databases_b, resident_b, need_python, load_s, self_test_s = out.stdout.split()
    return Loading(
        int(signatures),
        float(load_s),
        float(self_test_s),
        int(databases_b),
        int(resident_b),
        int(need_python),
    )


def _load_and_tell(folder: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    ruleset = load(folder)
    loaded = time.perf_counter()
    if failures := self_test(ruleset):
        raise SystemExit("\n".join(map(str, failures)))
    tested = time.perf_counter()
    resident_b = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    facts = ruleset.statistics
    print(len(ruleset.signatures), facts.bytes, resident_b, facts.need_python)
    print(loaded - start, tested - loaded)


def clean_costs(many: RuleSet, runs: int) -> Iterator[CleanCost]:
    """What packets that match nothing pay with the shipped set and with `many`."""
    shipped = load(shipped_signatures())
    for transport in ("udp", "tcp"):
        for payload_b in _PAYLOADS_B:
            packets = _clean_packets(transport, payload_b, many)
            cost = CleanCost(transport, payload_b, [], [])
            for _ in range(runs):
                cost.shipped_ns.append(_per_packet_ns(shipped, packets))
                cost.many_ns.append(_per_packet_ns(many, packets))
            yield cost


def _clean_packets(transport: str, payload_b: int, many: RuleSet) -> list[bytes]:
    """Packets of random bytes in which not even an expression matches.

    TCP: each is the first segment of its flow, so that each is scanned.
    """
    chance = random.Random(payload_b)
    bank = many.udp if transport == "udp" else many.tcp_stream
    packets = []
    while len(packets) < _PACKETS:
        payload = chance.randbytes(payload_b)
        if not bank.database.scan(payload):
            flow = len(packets) % _FLOWS if transport == "udp" else len(packets)
            packets.append(_packet(transport, flow, payload))
    return packets


def _packet(transport: str, flow: int, payload: bytes) -> bytes:
    if transport == "udp":
        header = struct.pack(">HHHH", 20000 + flow, 9, 8 + len(payload), 0)
    else:
        header = struct.pack(">HHIIBBHHH", 20000 + flow, 9, 1, 1, 0x50, 0x18, 1024, 0, 0)
    protocol = 17 if transport == "udp" else 6
    total = 20 + len(header) + len(payload)
    addresses = bytes([10, 0, 0, 1, 10, 0, 0, 2])
    ip = struct.pack(">BBHHHBBH", 0x45, 0, total, 0, 0, 64, protocol, 0) + addresses
    return ip + header + payload


def _per_packet_ns(ruleset: RuleSet, packets: list[bytes]) -> float:
    """The best of several passes, each with a fresh inspector: the rest is the machine's."""
    best = float("inf")
    for _ in range(5):
        inspect = Inspector(ruleset).inspect
        start = time.perf_counter_ns()
        for packet in packets:
            if inspect(packet, 0.0) is not ACCEPTED:
                raise ValueError("a clean packet was not")
        best = min(best, time.perf_counter_ns() - start)
    return best / len(packets)


def measure(
    count: int, runs: int, advance: Callable[[], None]
) -> tuple[list[Loading], list[CleanCost]]:
    """Load the shipped set and `count` generated signatures, and compare them."""
    with tempfile.TemporaryDirectory(prefix="btblocker-bench-") as name:
        folder = Path(name)
        write_signatures(folder, count)
        loadings = [measure_loading(shipped_signatures()), measure_loading(folder)]
        advance()
        costs = []
        for cost in clean_costs(load(folder), runs):
            costs.append(cost)
            advance()
    return loadings, costs


STEPS = 1 + 2 * len(_PAYLOADS_B)

if __name__ == "__main__":
    _load_and_tell(Path(sys.argv[1]))
