"""Writes any number of signatures, of ten kinds, as authors would."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

_PER_FILE = 200


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
