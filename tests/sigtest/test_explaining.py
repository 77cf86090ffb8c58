from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import InputError
from engine.sigtest.explaining import shown
from engine.sigtest.explanation import FlowFilter
from engine.truth import FlowKey
from tests.sigtest.made_up import (
    GOOD,
    HELLO,
    STREAM,
    TWICE,
    answer,
    as_json,
    capture,
    datagram,
    segment,
    signatures,
    sigtest,
)


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    return signatures(tmp_path / "signatures", HELLO, TWICE, STREAM)


def test_text(lab: Path, tmp_path: Path) -> None:
    path = capture(tmp_path / "a.pcap", datagram(b"?"), datagram(b"HELLO\0\x08"), answer(b"!"))
    done = sigtest("--explain", "--signatures", lab, path)
    assert (done.returncode, done.stderr) == (0, "")
    assert (
        done.stdout
        == f"""\
{path}: udp 10.0.0.1:1000 - 10.0.0.2:7000
  3 packets, 3 with payload
  no match  lab.hello  in packet 1, the closest: 10.0.0.1:1000 -> 10.0.0.2:7000, 7 bytes
     8 | $hello at 0
       |   true    $hello at 0  at 0
     9 | and u16(5) == 7   # the version
       |   false   u16(5) == 7  u16(5) = 8
    10 | and not (size > 100 or u8(7) == 1)
       |   false   size > 100   size = 7
       |   unknown u8(7) == 1   u8(7): past the end of 7 bytes
  no match  lab.twice  in packet 0, the closest: 10.0.0.1:1000 -> 10.0.0.2:7000, 1 byte
    22 | $again
       |   false   $again  nowhere in 1 byte

"""
    )


def test_match_and_what_came_after_it(lab: Path, tmp_path: Path) -> None:
    path = capture(tmp_path / "a.pcap", datagram(GOOD), datagram(b"AGAIN"))
    done = sigtest("--explain", "--signatures", lab, "--signature", "lab.hello", path)
    assert "2 with payload: stopped in packet 0, what came after it was not looked at" in (
        done.stdout
    )
    assert "match  lab.hello  in packet 0: 10.0.0.1:1000" in done.stdout
    assert "lab.twice" not in done.stdout
    ((flow,), _) = as_json("--explain", "--signatures", lab, path)
    assert flow["signatures"] == ["lab.hello"]
    hello, twice = flow["explanations"]
    assert (hello["matched"], hello["took_effect"], hello["payload_index"]) == (True, True, 0)
    assert (twice["matched"], twice["payload_index"]) == (False, 0)


def test_threshold_that_is_not_reached(lab: Path, tmp_path: Path) -> None:
    path = capture(tmp_path / "a.pcap", datagram(b"AGAIN"))
    ((flow,), _) = as_json("--explain", "--signatures", lab, path)
    twice = flow["explanations"][0]
    assert (twice["signature"], twice["matched"], twice["took_effect"]) == (
        "lab.twice",
        True,
        False,
    )
    done = sigtest("--explain", "--signatures", lab, path)
    assert "threshold of 2 within 10 s from one src was not reached" in done.stdout


def test_streams_are_explained_as_they_grow(lab: Path, tmp_path: Path) -> None:
    path = capture(tmp_path / "a.pcap", segment(b"one", 1), segment(b" two", 4), segment(b"x", 8))
    ((flow,), _) = as_json("--explain", "--signatures", lab, path)
    (stream,) = flow["explanations"]
    assert (stream["matched"], stream["payload_index"], stream["size"]) == (True, 1, 7)
    condition = stream["condition"]
    assert (condition["text"], condition["value"]) == ("$one at 0 and $two", True)
    assert [(part["text"], part["note"]) for part in condition["parts"]] == [
        ("$one at 0", "at 0"),
        ("$two", "at 4"),
    ]


TURNS = """\
id: lab.turns
title: Turns
scope: {transport: udp, inspect: flow}
prefilter: none
when: |
  turn(0).size == 3 and turn(1).size in 4..9 and turn(2).u8(0) == 7
then: {action: drop}
tests:
  - {expect: match, turns: ['"one"', '"four"', 'u8(7)']}
  - {expect: no match, turns: ['"one"', '"two"', 'u8(7)']}
"""


def test_turns_are_explained_as_they_come(tmp_path: Path) -> None:
    folder = signatures(tmp_path / "signatures", TURNS)
    path = capture(tmp_path / "a.pcap", datagram(b"one"), answer(b"four"))
    done = sigtest("--explain", "--signatures", folder, path)
    assert "in packet 1, the closest: 10.0.0.2:7000 -> 10.0.0.1:1000\n" in done.stdout
    assert "turn(1).size in 4..9  turn(1).size = 4\n" in done.stdout
    assert "unknown turn(2).u8(0) == 7    turn(2).u8(0): turn 2 has not begun\n" in done.stdout
    capture(path, datagram(b"one"), answer(b"four"), datagram(b"\7"))
    ((flow,), _) = as_json("--explain", "--signatures", folder, path)
    (turns,) = flow["explanations"]
    assert (turns["matched"], turns["payload_index"], turns["size"]) == (True, 2, None)


WHOLE = """\
id: lab.whole
title: Whole
scope: {transport: udp}
patterns: |
  $a = "AB"
  $b = "CD"
when: |
  $a at u8(0) and count($b) >= limit and src.port in ports
  and src.ip in offices and not src.port in many
  and any of them in u8(1)..u8(30)
  and dns.query in @hosts
  and dns.query icontains "EXAMPLE"
then: {action: log}
tests:
  - {expect: match, payload: '"AB"'}
  - {expect: no match, payload: '"CD"'}
"""


def test_variables_lists_counts_and_computed_places(tmp_path: Path) -> None:
    folder = signatures(tmp_path / "signatures", WHOLE)
    (folder / "vars.yaml").write_text(
        "limit: 7\nports: [1000, 1001]\noffices: [10.0.0.0/8, 192.168.0.0/16]\n"
        "many: [1, 2, 3, 4, 5, 6]\n"
    )
    (folder / "lists").mkdir()
    (folder / "lists" / "hosts.txt").write_text("tracker.example\n")
    path = capture(tmp_path / "a.pcap", datagram(b"\x03\x01.ABCDCDAB"))
    done = sigtest("--explain", "--signatures", folder / "lab.yaml", path)
    assert done.stderr == ""
    rows = [line.partition("|   ")[2] for line in done.stdout.splitlines() if "|   " in line]
    assert [" ".join(row.split()) for row in rows] == [
        "true $a at u8(0) at 3; u8(0) = 3",
        "false count($b) >= limit count($b) = 2; limit = 7",
        "true src.port in ports src.port = 1000; ports = [1000, 1001]",
        "true src.ip in offices src.ip = 10.0.0.1",
        "true not src.port in many src.port = 1000; many = [1, 2, 3, 4, 5, ...]",
        "unknown any of them in u8(1)..u8(30) u8(1) = 1; u8(30): past the end of 11 bytes",
        "unknown dns.query in @hosts dns.query: not a DNS message",
        'unknown dns.query icontains "EXAMPLE" dns.query: not a DNS message',
    ]


def test_places_in_the_file(lab: Path, tmp_path: Path) -> None:
    path = capture(tmp_path / "a.pcap", datagram(GOOD))
    ((flow,), _) = as_json("--explain", "--signatures", lab, path)
    hello = flow["explanations"][0]
    assert hello["file"] == str(lab / "lab.yaml")
    version = hello["condition"]["parts"][1]
    assert [version[at] for at in ("text", "line", "column", "end_line", "end_column")] == [
        "u16(5) == 7",
        9,
        7,
        9,
        18,
    ]
    assert (version["value"], version["parts"][0]["value"]) == (True, 7)


def test_many_signatures_are_only_named_when_no_term_is_true(tmp_path: Path) -> None:
    made = [TWICE.replace("lab.twice", f"lab.n{number}") for number in range(4)]
    folder = signatures(tmp_path / "signatures", HELLO, *made)
    path = capture(tmp_path / "a.pcap", datagram(b"HELLO"))
    done = sigtest("--explain", "--signatures", folder, path)
    assert "not a term true: lab.n0, lab.n1, lab.n2, lab.n3" in done.stdout
    done = sigtest("--explain", "--signatures", folder, "--signature", "lab.n2", path)
    assert "no match  lab.n2" in done.stdout


def test_flows_are_chosen(lab: Path, tmp_path: Path) -> None:
    path = capture(tmp_path / "a.pcap", *(datagram(b"x", port) for port in range(1, 15)))
    flows, summary = as_json("--explain", "--signatures", lab, path)
    assert [flow["a"] for flow in flows] == [f"10.0.0.1:{port}" for port in range(1, 11)]
    assert summary["left_out"] == 4
    chosen = as_json("--explain", "--signatures", lab, "--flow", "10.0.0.2-10.0.0.1:14", path)
    assert [flow["a"] for flow in chosen[0]] == ["10.0.0.1:14"]
    assert len(as_json("--explain", "--signatures", lab, "--flow", "10.0.0.2:7000", path)[0]) == 14
    done = sigtest("--explain", "--signatures", lab, path)
    assert "4 more flows with payload: choose with --flow" in done.stdout


KEY = FlowKey.between("udp", "[2001:db8::1]:80", "10.0.0.1:5")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("10.0.0.1", True),
        ("10.0.0.1:5", True),
        ("10.0.0.1:50", False),
        ("10.0.0.11", False),
        ("2001:db8::1", True),
        ("[2001:db8::1]:80", True),
        ("[2001:DB8:0::1]", True),
        ("[2001:db8::1]:8", False),
        ("10.0.0.1-2001:db8::1", True),
        ("[2001:db8::1]:80-10.0.0.1:5", True),
        ("10.0.0.1-10.0.0.1", False),
        ("udp 10.0.0.1:5 - [2001:db8::1]:80", True),
    ],
)
def test_flow_filter(text: str, meant: bool) -> None:
    assert FlowFilter(text)(KEY) is meant


@pytest.mark.parametrize("text", ["", "x", "10.0.0.1:x", "10.0.0.1-", "1.1.1.1-1.1.1.1-1.1.1.1"])
def test_flow_filter_refuses(text: str) -> None:
    with pytest.raises(InputError, match="--flow"):
        FlowFilter(text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--explain", "--flow", "10.9.9.9"], "no such flow with payload"),
        (["--explain", "--flow", "x"], "`x` is no endpoint"),
        (["--explain", "--signature", "lab.hullo"], "did you mean `lab.hello`?"),
        (["--explain", "--profile"], "--explain and --profile do not go together"),
        (["--explain", "--diff", "a", "b"], "--explain and --diff do not go together"),
        (["--flow", "10.0.0.1"], "--flow narrows --explain"),
    ],
)
def test_bad_input(lab: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    path = capture(tmp_path / "a.pcap", datagram(b"x"))
    done = sigtest("--signatures", lab, path, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b'a"\\\n\xff', r'"a\"\\\x0a\xff"'),
        (bytes(range(65, 91)) * 4, '"' + "ABCDEFGHIJKLMNOPQRSTUVWXYZ" * 2),
        (7, "7"),
        (True, "true"),
        (5.123456, "5.123"),
    ],
)
def test_values_as_the_language_writes_them(value: object, text: str) -> None:
    assert shown(value).startswith(text[:49])
    assert len(shown(value)) < 80


def test_integers_in_hexadecimal() -> None:
    assert shown(65, hexadecimal=True) == "0x41 (65)"
