"""Tags that signatures put on hosts."""

from __future__ import annotations

import pytest

from engine.compiler.ruleset import RuleSet
from engine.inspect import tags
from engine.inspect.inspector import Inspector, Verdict
from engine.inspect.packet import reverse
from tests.inspect.flows import (
    BLOCK,
    CLIENT,
    SERVER,
    THERE,
    datagram,
    rules,
)


def tagging(**then: object) -> RuleSet:
    """Tags of the first byte 1; with the first byte 2 a tagged host is stopped."""
    tag = {"name": "peer", "of": "src", "for": "10s"}
    return rules(
        ("a.tag", "udp", "packet", "u8(0) == 1", {"action": "tag", "tag": tag} | then),
        ("b.src", "udp", "packet", 'u8(0) == 2 and src.tagged("peer")', BLOCK),
        ("b.dst", "udp", "packet", 'u8(0) == 2 and dst.tagged("peer")', BLOCK),
    )


def found(inspector: Inspector, payload: bytes, key: bytes, now_s: float = 0) -> list[str]:
    return [d.signature for d in inspector.judge(datagram(payload, key), now_s).detections]


OTHER = bytes([10, 0, 0, 3])


@pytest.mark.parametrize(
    ("of", "tagged"),
    [("src", {CLIENT}), ("dst", {SERVER}), ("both", {CLIENT, SERVER})],
)
def test_a_tag_is_on_whom_it_is_meant_for(of: str, tagged: set[bytes]) -> None:
    inspector = Inspector(tagging(tag={"name": "peer", "of": of, "for": "10s"}))
    judgement = inspector.judge(datagram(b"\1"), 0)
    assert judgement.verdict is Verdict.ACCEPT
    assert [d.action for d in judgement.detections] == ["tag"]
    for host in (CLIENT, SERVER, OTHER):
        key = host + OTHER + bytes([0, 5, 0, 5])
        expected = ["b.src"] if host in tagged else []
        assert found(inspector, b"\2", key) == expected
        inspector._udp.start(key)
        assert found(inspector, b"\2", reverse(key)) == [w.replace("src", "dst") for w in expected]


def test_a_tag_expires_and_is_renewed_while_it_goes_on() -> None:
    inspector = Inspector(tagging())
    assert found(inspector, b"\1", THERE, 0) == ["a.tag"]
    assert found(inspector, b"\1", THERE, 8) == []
    for port, now_s, expected in ((1, 17.9, ["b.src"]), (2, 18.0, [])):
        assert found(inspector, b"\2", CLIENT + OTHER + bytes([0, port, 0, 1]), now_s) == expected


def test_a_threshold_holds_a_tag_back() -> None:
    threshold = {"count": 2, "per": "src", "within": "10s"}
    inspector = Inspector(tagging(threshold=threshold))
    keys = [CLIENT + SERVER + bytes([0, port, 0, 9]) for port in range(4)]
    assert found(inspector, b"\1", keys[0]) == []
    assert found(inspector, b"\2", keys[1]) == []
    assert found(inspector, b"\1", keys[2]) == ["a.tag"]
    assert found(inspector, b"\2", keys[3]) == ["b.src"]


def test_tags_outlive_a_reload() -> None:
    inspector = Inspector(tagging())
    found(inspector, b"\1", THERE)
    inspector.ruleset = tagging()
    assert found(inspector, b"\2", CLIENT + OTHER + bytes(4)) == ["b.src"]


def test_many_hosts_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tags, "MAX_TAGS", 50)
    inspector = Inspector(tagging(), max_flows=40)
    for number in range(2000):
        found(inspector, b"\1", number.to_bytes(4, "big") + SERVER + bytes(4))
        assert len(inspector.tags) <= 50
        assert inspector.flows <= 80
    assert inspector.tags.has((1999).to_bytes(4, "big"), "peer", 0)


def test_tags_are_told_but_not_with_every_packet() -> None:
    told: list[tuple[bytes, str, float]] = []
    said = tags.HostTags()
    said.tell = lambda *tag: told.append(tag)
    for now_s in range(60):
        said.set(b"host", "seen", 600 + now_s)
    assert 2 <= len(told) <= 4
    assert told[0] == (b"host", "seen", 600)
    others = tags.HostTags()
    others.tell = lambda *tag: pytest.fail("what was told is not told on")
    others.learn(*told[0])
    assert others.has(b"host", "seen", 599)
