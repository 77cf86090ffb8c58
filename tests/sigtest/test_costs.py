"""Coverage and profile."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.signatures import load
from engine.sigtest.profile import profile_capture
from engine.trial import try_capture
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

ALWAYS = """\
id: lab.always
title: Always
scope: {transport: udp}
prefilter: none
when: |
  size == 1
then: {action: log}
tests:
  - {expect: match, payload: '"x"'}
  - {expect: no match, payload: '"xx"'}
"""


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    return signatures(tmp_path / "signatures", HELLO, TWICE, STREAM, ALWAYS)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return capture(
        tmp_path / "a.pcap",
        datagram(b"HELLO\0\x08"),
        datagram(b"x"),
        datagram(GOOD),
        datagram(GOOD),
        datagram(b"AGAIN", 1001),
        segment(b"two one", 1),
    )


def test_coverage(lab: Path, path: Path) -> None:
    _, summary = as_json("--coverage", "--signatures", lab, path)
    assert summary["coverage"] == [
        {"signature": "lab.hello", "tests": 1, "flows": 1, "untested_patterns": []},
        {"signature": "lab.twice", "tests": 1, "flows": 0, "untested_patterns": []},
        {"signature": "lab.stream", "tests": 1, "flows": 0, "untested_patterns": []},
        {"signature": "lab.always", "tests": 1, "flows": 1, "untested_patterns": []},
    ]
    done = sigtest("--coverage", "--signatures", lab, path)
    assert "matched in no capture: lab.twice, lab.stream" in done.stdout
    assert "matched in no test" not in done.stdout
    assert "patterns in no test" not in done.stdout


def test_patterns_that_no_test_holds(lab: Path, path: Path) -> None:
    more = '  $two = "two"\n  $three = "three"\n'
    text = STREAM.replace('  $two = "two"\n', more).replace("and $two", "and any of ($t*)")
    (lab / "lab.yaml").write_text(text)
    _, summary = as_json("--coverage", "--signatures", lab, path)
    assert [row["untested_patterns"] for row in summary["coverage"]] == [["$three"]]
    done = sigtest("--coverage", "--signatures", lab, path)
    assert "patterns in no test: lab.stream $three" in done.stdout


def test_signatures_whose_tests_fail_are_not_tested(lab: Path, path: Path) -> None:
    text = TWICE.replace("""match, payload: '"AGAIN"'""", """match, payload: '"AGAIM"'""")
    (lab / "lab.yaml").write_text(text)
    done = sigtest("--coverage", "--signatures", lab, path)
    assert done.returncode == 1
    assert "matched in no test: lab.twice" in done.stdout
    assert "matched nowhere: lab.twice" in done.stdout


def test_every_signature_matched(lab: Path, path: Path) -> None:
    (lab / "lab.yaml").write_text(HELLO)
    done = sigtest("--coverage", "--signatures", lab, path)
    assert "every signature matched in a test and in a capture" in done.stdout


@pytest.mark.parametrize("processes", [1, 2])
def test_profile(lab: Path, path: Path, processes: int) -> None:
    _, summary = as_json("-j", processes, "--profile", "--signatures", lab, path, path)
    costs = {cost.pop("signature"): cost for cost in summary["profile"]["signatures"]}
    times = {name: cost.pop("time_ns") for name, cost in costs.items()}
    assert costs == {
        "lab.hello": {"triggered": 4, "calls": 4, "true": 2},
        "lab.twice": {"triggered": 2, "calls": 0, "true": 2},
        "lab.stream": {"triggered": 0, "calls": 0, "true": 0},
        "lab.always": {"triggered": 0, "calls": 8, "true": 2},
    }
    assert times["lab.hello"] > 0
    assert times["lab.twice"] == 0
    assert list(times.values()) == sorted(times.values(), reverse=True)
    assert summary["profile"]["total_ns"] > sum(times.values())


def test_profile_as_text(lab: Path, path: Path) -> None:
    done = sigtest("--profile", "--signatures", lab, path)
    assert done.returncode == 0
    assert "ns a call" in done.stdout
    assert "spent on reading and inspecting" in done.stdout


def test_measuring_changes_no_verdict_and_leaves_the_ruleset_alone(lab: Path, path: Path) -> None:
    ruleset = load(lab)
    banks = (ruleset.udp, ruleset.tcp_stream, ruleset.tcp_packet)
    measured, _ = profile_capture(path, ruleset)
    assert measured == try_capture(path, ruleset)
    assert banks == (ruleset.udp, ruleset.tcp_stream, ruleset.tcp_packet)
