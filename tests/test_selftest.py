from __future__ import annotations

from pathlib import Path

import pytest

from engine.selftest import self_test
from engine.signatures import load

FLOW = "{transport: tcp, inspect: flow}"
DATAGRAMS = "{transport: udp, inspect: flow}"
STREAM = "{transport: tcp}"
PACKET = "{transport: udp}"
# Sets the tag, and matches nothing of what is tried here.
TAGGER = """
id: lab.tagger
title: Sets the tag
scope: {transport: udp}
when: |
  u32(0) == 0xfefefefe
then: {action: tag, tag: {name: peer, of: src, for: 10s}}
tests:
  - {expect: match, payload: '{fe fe fe fe}'}
  - {expect: no match, payload: '{fe fe fe}'}
"""


def failures(tmp_path: Path, scope: str, when: str, test: str, then: str = "{action: log}") -> int:
    """How many of two fail: that the test's material must match, and that it must not."""
    text = f"""
id: lab.tried
title: Tried
scope: {scope}
prefilter: none
when: |
  {when}
then: {then}
tests:
  - {{expect: match, {test}}}
  - {{expect: no match, {test}}}
"""
    (tmp_path / "a.yaml").write_text(TAGGER + "---" + text)
    found = self_test(load(tmp_path))
    assert len(found) == 1
    return 10 if "must not match" in found[0].message else 1


def matches(*arguments: str, tmp_path: Path, then: str = "{action: log}") -> bool:
    return failures(tmp_path, *arguments, then) == 10


@pytest.mark.parametrize(
    ("scope", "when", "test", "expected"),
    [
        (PACKET, "u8(0) == 1", "payload: '{01}'", True),
        (PACKET, "u8(0) == 1", "turns: ['{02}', '{01}']", True),
        (PACKET, "u8(0) == 1 and flow.payload_packets == 1", "turns: ['{02}', '{01}']", False),
        (PACKET, "flow.from_client", "payload: '{01}'", True),
        (PACKET, "u8(0) == 1 and flow.from_client", "turns: ['{02}', '{01}']", False),
        (STREAM, "size == 3", "turns: ['{02}', '{01}', '{01 01}']", True),
        (STREAM, "size == 4", "turns: ['{02}', '{01}', '{01 01}']", False),
        (FLOW, "turn(0).size == 2 and turns == 1", "payload: 'u16(7)'", True),
        (FLOW, "turn(2).size == 3", "turns: ['u8(1)', 'u8(1)', 'zeros(3)']", True),
        (FLOW, "turn(1).from_client", "turns: ['u8(1)', 'u8(1)']", False),
        # An empty turn is nobody's word: the client goes on.
        (FLOW, "turn(0).size == 2 and turns == 1", "turns: ['u8(1)', '', 'u8(1)']", True),
        (FLOW, "turn(0).size == 65535", "payload: 'zeros(65535)'", True),
        (
            DATAGRAMS,
            "turn(1).u8(0) == 2 and turn(0).from_client",
            "turns: ['u8(1)', 'u8(2)']",
            True,
        ),
        (DATAGRAMS, "turns == 9", f"turns: {['u8(1)'] * 16}", True),
        (PACKET, 'src.tagged("peer")', "payload: '{01}', tagged: {src: [peer]}", True),
        (PACKET, 'dst.tagged("peer")', "payload: '{01}', tagged: {src: [peer]}", False),
        (PACKET, 'dst.tagged("peer")', "payload: '{01}', tagged: {dst: [peer]}", True),
        (PACKET, "src.port == 6881", "payload: '{01}', src: 6881", True),
        (PACKET, "dst.port == 6881", "payload: '{01}', src: 6881", False),
        (PACKET, "src.ip in 10.0.0.0/8 and dst.ip in ::/0", "payload: '', src: 10.0.0.1", False),
        (
            PACKET,
            "src.ip in 2001:db8::5 and src.port == 6 and dst.ip in 2001:db8::/32",
            "payload: '{01}', src: '[2001:db8::5]:6'",
            True,
        ),
        (
            PACKET,
            "src.ip in 192.0.2.0/24 and dst.ip in 10.0.0.7 and dst.port == 53",
            "payload: '{01}', dst: 10.0.0.7:53",
            True,
        ),
        (PACKET, "src.port == 49152 and dst.port == 49153", "payload: ''", True),
        (
            DATAGRAMS,
            "src.port == 443 and dst.ip in ::1 and not flow.from_client",
            "turns: ['{01}', '{02}'], src: '::1', dst: '[::2]:443'",
            True,
        ),
        (
            FLOW,
            "turns == 2 and src.port == 443 and dst.ip in 10.0.0.1",
            "turns: ['{01}', '{02}'], src: 10.0.0.1, dst: 443",
            True,
        ),
        (FLOW, "src.port == 443 and turns == 1", "turns: ['{01}', '{02}'], dst: 443", False),
        (
            PACKET,
            'src.tagged("peer") and src.ip in 10.0.0.9',
            "payload: '{01}', src: 10.0.0.9, tagged: {src: [peer]}",
            True,
        ),
        (FLOW, 'src.tagged("peer")', "turns: ['u8(1)', 'u8(1)'], tagged: {dst: [peer]}", True),
        (FLOW, 'src.tagged("peer")', "turns: ['u8(1)'], tagged: {dst: [peer]}", False),
    ],
)
def test_what_a_test_says(scope: str, when: str, test: str, expected: bool, tmp_path: Path) -> None:
    assert matches(scope, when, test, tmp_path=tmp_path) is expected


@pytest.mark.parametrize("material", ["payload: '{01}'", "turns: ['{01}']"])
def test_thresholds_are_left_aside(material: str, tmp_path: Path) -> None:
    then = "{action: block, threshold: {count: 9, per: src, within: 1s}}"
    assert matches(PACKET, "u8(0) == 1", material, tmp_path=tmp_path, then=then)


def test_other_signatures_are_left_aside(tmp_path: Path) -> None:
    scope = "scope: {transport: tcp, inspect: flow}\n"
    tests = "tests: [{expect: match, turns: ['u8(1)', 'u8(2)']}, {expect: no match, payload: ''}]"
    for name, when in (("first", "turn(0).size == 1"), ("second", "turn(1).size == 1")):
        (tmp_path / f"{name}.yaml").write_text(
            f"id: lab.{name}\ntitle: x\n{scope}when: |\n  {when}\nthen: {{action: block}}\n{tests}"
        )
    assert self_test(load(tmp_path)) == []
