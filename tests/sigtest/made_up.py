"""A made-up protocol, its signatures, captures of it, and the command that tries them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.captures import ethernet, pcap, tcp, udp

SIGTEST = Path(__file__).parents[2] / "tools" / "sigtest"
A, B = "10.0.0.1", "10.0.0.2"

HELLO = """\
id: lab.hello
rev: 1
title: Hello
scope: {transport: udp}
patterns: |
  $hello = "HELLO"
when: |
  $hello at 0
  and u16(5) == 7   # the version
  and not (size > 100 or u8(7) == 1)
then: {action: drop}
tests:
  - {expect: match, payload: '"HELLO" u16(7) u8(2)'}
  - {expect: no match, payload: '"HELLO" u16(8)'}
"""
TWICE = """\
id: lab.twice
title: Twice
scope: {transport: udp}
patterns: |
  $again = "AGAIN"
when: |
  $again
then: {action: block, threshold: {count: 2, per: src, within: 10s}}
tests:
  - {expect: match, payload: '"AGAIN"'}
  - {expect: no match, payload: '"again"'}
"""
STREAM = """\
id: lab.stream
title: Stream
scope: {transport: tcp}
patterns: |
  $one = "one"
  $two = "two"
when: |
  $one at 0 and $two
then: {action: log}
tests:
  - {expect: match, payload: '"one two"'}
  - {expect: no match, payload: '"two one"'}
"""


GOOD = b"HELLO\0\x07\x02"


def signatures(folder: Path, *texts: str) -> Path:
    folder.mkdir()
    (folder / "lab.yaml").write_text("---\n".join(texts))
    return folder


def capture(path: Path, *packets: bytes) -> Path:
    path.write_bytes(pcap(map(ethernet, packets)))
    return path


def datagram(payload: bytes, port: int = 1000) -> bytes:
    return udp(A, port, B, 7000, payload)


def answer(payload: bytes, port: int = 1000) -> bytes:
    return udp(B, 7000, A, port, payload)


def segment(payload: bytes, sequence: int, port: int = 2000) -> bytes:
    return tcp(A, port, B, 80, payload, sequence)


def sigtest(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SIGTEST, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )


def as_json(*arguments: object) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What `--json` prints: the objects, and the summary after them."""
    done = sigtest("--json", *arguments)
    assert done.stderr == ""
    *objects, last = map(json.loads, done.stdout.splitlines())
    assert last["summary"]["exit_code"] == done.returncode
    return objects, last["summary"]
