from __future__ import annotations

from pathlib import Path

import pytest

from tests.sigtest.made_up import (
    GOOD,
    HELLO,
    STREAM,
    TWICE,
    as_json,
    capture,
    datagram,
    segment,
    signatures,
    sigtest,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return capture(
        tmp_path / "a.pcap",
        datagram(b"?"),
        datagram(GOOD),
        datagram(GOOD),
        datagram(b"nothing", 1001),
        segment(b"one two", 1),
    )


@pytest.mark.parametrize(
    ("new", "changes"),
    [
        ([HELLO, STREAM], []),
        ([HELLO.replace("rev: 1", "rev: 2"), STREAM, TWICE], []),
        ([TWICE, STREAM], [("no longer detected", 1000)]),
        ([HELLO, STREAM.replace("log", "drop")], [("newly detected", 2000)]),
        ([HELLO, TWICE], [("other action", 2000)]),
        ([HELLO.replace("drop", "block"), STREAM], [("other action", 1000)]),
        ([HELLO.replace("lab.hello", "lab.hallo"), STREAM], [("other signatures", 1000)]),
        (
            [HELLO.replace("drop}", "drop, threshold: {count: 2, per: src, within: 1s}}"), STREAM],
            [("other packet", 1000)],
        ),
    ],
)
def test_changes(tmp_path: Path, path: Path, new: list[str], changes: list[object]) -> None:
    before = signatures(tmp_path / "old", HELLO, STREAM)
    after = signatures(tmp_path / "new", *new)
    found, summary = as_json("--diff", before, after, path)
    assert [(f["change"], int(f["a"].split(":")[1])) for f in found] == changes
    assert summary["exit_code"] == bool(changes)
    assert sum(summary["changes"].values()) == len(changes)


def test_text(tmp_path: Path, path: Path) -> None:
    before = signatures(tmp_path / "old", HELLO)
    after = signatures(tmp_path / "new", TWICE)
    done = sigtest("--diff", before, after, path)
    assert (done.returncode, done.stderr) == (1, "")
    assert (
        done.stdout
        == f"""\
{path}
  no longer detected: udp 10.0.0.1:1000 - 10.0.0.2:7000
    - drop by lab.hello in packet 1
    + nothing
1 capture, 3 flows, 1 judged differently
  no longer detected: 1
"""
    )


def test_broken_signatures_and_captures(tmp_path: Path, path: Path) -> None:
    good = signatures(tmp_path / "old", HELLO)
    broken = signatures(tmp_path / "new", HELLO.replace("size", "sise"))
    done = sigtest("--diff", good, broken, path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "did you mean `size`?" in done.stderr
    path.write_bytes(path.read_bytes()[:-1])
    done = sigtest("--diff", good, good, path)
    assert done.returncode == 2
    assert "truncated" in done.stderr
