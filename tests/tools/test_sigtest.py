"""The command as users call it, with the signatures that btblocker ships."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.captures import ethernet, pcap, tcp, udp

SIGTEST = Path(__file__).parents[2] / "tools" / "sigtest"
HANDSHAKE = b"\x13BitTorrent protocol" + bytes(8) + bytes(range(100, 140))
PEER, CLIENT = "10.0.0.2:51413", "10.0.0.1:40000"


def run(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SIGTEST, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "good.pcap").write_bytes(
        pcap(
            [
                ethernet(tcp("10.0.0.1", 40000, "10.0.0.2", 51413, b"")),
                ethernet(tcp("10.0.0.1", 40000, "10.0.0.2", 51413, HANDSHAKE)),
                ethernet(udp("10.0.0.1", 5353, "10.0.0.9", 53, b"nothing of the kind")),
            ]
        )
    )
    (tmp_path / "cut.pcap").write_bytes((tmp_path / "good.pcap").read_bytes()[:-1])
    (tmp_path / "empty.pcap").write_bytes(pcap([]))
    (tmp_path / "README.md").write_text("no capture")
    return tmp_path


def label(folder: Path, *flows: dict[str, Any], file: str = "good.pcap") -> Path:
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps([{"file": file, "class": "mixed", "bt_flows": flows}]))
    return manifest


def handshake(**fields: Any) -> dict[str, Any]:
    return {"proto": "tcp", "a": CLIENT, "b": PEER, "kind": "handshake"} | fields


def test_json(folder: Path) -> None:
    done = run("--json", "good.pcap", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    first, second, last = map(json.loads, done.stdout.splitlines())
    assert first.pop("signatures")
    assert first == {
        "file": "good.pcap",
        "proto": "tcp",
        "a": CLIENT,
        "b": PEER,
        "packets": 2,
        "payload_packets": 1,
        "detected": True,
        "first_payload_index": 0,
        "action": "block",
    }
    assert second == {
        "file": "good.pcap",
        "proto": "udp",
        "a": "10.0.0.1:5353",
        "b": "10.0.0.9:53",
        "packets": 1,
        "payload_packets": 1,
        "detected": False,
        "signatures": [],
        "first_payload_index": None,
        "action": None,
    }
    assert list(last) == ["summary"]
    assert (last["summary"]["flows"], last["summary"]["detected"]) == (2, 1)


def test_listing(folder: Path) -> None:
    done = run(folder / "good.pcap", folder / "empty.pcap", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "good.pcap: 3 packets, 2 flows, 1 detected" in done.stdout
    assert f"block  tcp {CLIENT} - {PEER}" in done.stdout
    assert "empty.pcap: 0 packets, 0 flows, 0 detected" in done.stdout
    assert "2 captures, 3 packets" in done.stdout


def test_truth_that_holds(folder: Path) -> None:
    done = run("--truth", label(folder, handshake()), "good.pcap", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "0 missed, 0 false positives: every expectation holds" in done.stdout


def test_truth_with_a_miss(folder: Path) -> None:
    dns = handshake(proto="udp", a="10.0.0.1:5353", b="10.0.0.9:53", kind="dht")
    manifest = label(folder, handshake(), dns)
    done = run("--truth", manifest, "--json", "good.pcap", cwd=folder)
    assert (done.returncode, done.stderr) == (1, "")
    score = json.loads(done.stdout.splitlines()[-1])["summary"]["score"]
    assert score["missed"] == 1
    assert score["kinds"]["dht"] == {"flows": 1, "detected": 0}
    assert score["kinds"]["handshake"] == {"flows": 1, "detected": 1}


def test_truth_with_a_false_positive(folder: Path) -> None:
    done = run("--truth", label(folder), "good.pcap", cwd=folder)
    assert (done.returncode, done.stderr) == (1, "")
    assert "FALSE POSITIVE" in done.stdout
    assert "0 missed, 1 false positive: expectations fail" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.pcap"], "missing.pcap: cannot read: No such file or directory"),
        (["cut.pcap"], "cut.pcap: truncated: the file ends inside the record"),
        (["README.md"], "README.md: not a packet capture"),
        (["--truth", "README.md", "good.pcap"], "README.md: not JSON"),
        (["--truth", "missing.json", "good.pcap"], "missing.json: cannot read"),
        (["--signatures", "missing", "good.pcap"], "missing"),
        ([], "CAPTURE"),
        (["-j", "0", "good.pcap"], "not a number of processes"),
    ],
)
def test_bad_input(folder: Path, arguments: list[str], message: str) -> None:
    done = run(*arguments, cwd=folder)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_malformed_manifest(folder: Path) -> None:
    manifest = label(folder, handshake(), handshake(proto="sctp"))
    done = run("--truth", manifest, "good.pcap", cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert 'entry 0, bt_flows[1].proto: expected "tcp" or "udp", found "sctp"' in done.stderr


def test_capture_without_labels(folder: Path) -> None:
    done = run("--truth", label(folder), "good.pcap", "empty.pcap", cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert "empty.pcap: no entry in" in done.stderr


def test_damaged_capture_does_not_keep_the_others_from_being_tried(folder: Path) -> None:
    done = run("cut.pcap", "good.pcap", cwd=folder)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "good.pcap: 3 packets, 2 flows, 1 detected" in done.stdout


@pytest.mark.parametrize("processes", ["1", "4"])
def test_processes(folder: Path, processes: str) -> None:
    for number in range(8):
        (folder / f"{number}.pcap").write_bytes((folder / "good.pcap").read_bytes())
    names = [f"{number}.pcap" for number in range(8)]
    done = run("-j", processes, "--json", *names, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    files = [json.loads(line).get("file") for line in done.stdout.splitlines()]
    assert files == [name for name in names for _ in range(2)] + [None]


def test_reader_that_goes_away(folder: Path) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        done = subprocess.run(
            [SIGTEST, "good.pcap"],
            cwd=folder,
            stdout=write_end,
            stderr=subprocess.PIPE,
            timeout=120,
            check=False,
        )
    finally:
        os.close(write_end)
    assert (done.returncode, done.stderr) == (141, b"")


def test_signatures_whose_own_tests_fail(folder: Path) -> None:
    (folder / "signatures").mkdir()
    (folder / "signatures" / "made-up.yaml").write_text(
        """\
id: test.made-up
rev: 1
title: Made up
scope: {transport: udp}
patterns: |
  $word = "nothing of"
when: |
  $word at 0
then: {action: drop}
tests:
  - {expect: match, payload: '"something else"'}
  - {expect: no match, payload: '"another"'}
"""
    )
    done = run("--signatures", "signatures", "--json", "good.pcap", cwd=folder)
    assert done.returncode == 1
    assert "made-up.yaml" in done.stderr
    flows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(flows.pop()["summary"]["failed_tests"]) == 1
    assert [flow["signatures"] for flow in flows] == [[], ["test.made-up"]]


def test_signatures_that_are_switched_off(folder: Path) -> None:
    (folder / "off.yaml").write_text(
        """
id: lab.off
title: Switched off
enabled: false
scope: {transport: udp}
patterns: |
  $nothing = "nothing of the kind"
when: |
  $nothing at 0
then: {action: drop}
tests:
  - {expect: match, payload: '"nothing of the kind"'}
  - {expect: no match, payload: '"something"'}
"""
    )
    arguments = ("--json", "--signatures", folder / "off.yaml", "good.pcap")
    for option, detected in ((), 0), (("--all",), 1):
        done = run(*option, *arguments, cwd=folder)
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout.splitlines()[-1])["summary"]["detected"] == detected


GUESS = """
id: lab.guess
title: A datagram of nothing
certainty: guess
scope: {transport: udp}
patterns: |
  $nothing = "nothing of the kind"
when: |
  $nothing
then: {action: drop}
tests:
  - {expect: match, payload: '"nothing of the kind"'}
  - {expect: no match, payload: '"nothing"'}
"""


@pytest.mark.parametrize(("profile", "detected"), [("strict", 1), ("balanced", 0), ("plain", 0)])
def test_the_profile_says_how_sure_signatures_must_be(
    profile: str, detected: int, folder: Path
) -> None:
    (folder / "guess.yaml").write_text(GUESS)
    done = run(
        *("--detection-profile", profile, "--signatures", "guess.yaml", "--json", "good.pcap"),
        cwd=folder,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout.splitlines()[-1])["summary"]["detected"] == detected


TAGS = """
id: lab.question
title: Somebody asks
scope: {transport: udp}
when: |
  u64(0) == 0x6e6f7468696e6720
then: {action: tag, tag: {name: asked, of: src, for: 1m}}
tests:
  - {expect: match, payload: '"nothing of the kind"'}
  - {expect: no match, payload: '"none"'}
---
id: lab.handshake
title: A handshake of somebody who has asked
scope: {transport: tcp}
patterns: |
  $hello = "\\x13BitTorrent protocol"
when: |
  $hello at 0 and dst.tagged("asked")
then: {action: drop}
tests:
  - {expect: match, payload: '"\\x13BitTorrent protocol"', tagged: {dst: [asked]}}
  - {expect: no match, payload: '"\\x13BitTorrent protocol"'}
"""


@pytest.mark.parametrize(("options", "detected"), [((), 1), (("--isolate-flows",), 0)])
def test_tags_do_not_reach_an_isolated_flow(
    options: tuple[str, ...], detected: int, folder: Path
) -> None:
    frames = [
        ethernet(udp("10.0.0.2", 5353, "10.0.0.9", 53, b"nothing of the kind")),
        ethernet(tcp("10.0.0.1", 40000, "10.0.0.2", 51413, HANDSHAKE)),
    ]
    (folder / "good.pcap").write_bytes(pcap(frames))
    (folder / "tags.yaml").write_text(TAGS)
    done = run("--signatures", "tags.yaml", "--json", *options, "good.pcap", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout.splitlines()[-1])["summary"]["detected"] == detected
