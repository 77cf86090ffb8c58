from __future__ import annotations

import pytest

from engine.inspect import tags as module
from engine.inspect.tags import HostTags


def test_a_tag_lasts_until_it_expires() -> None:
    tags = HostTags()
    tags.set(b"a", "peer", 10.0)
    assert [tags.has(b"a", "peer", now_s) for now_s in (0, 9.9, 10, 11)] == [
        True,
        True,
        False,
        False,
    ]


def test_hosts_and_names_are_apart() -> None:
    tags = HostTags()
    tags.set(b"a", "peer", 10.0)
    assert not tags.has(b"b", "peer", 0)
    assert not tags.has(b"a", "tracker", 0)


def test_a_tag_is_never_shortened() -> None:
    tags = HostTags()
    for expires_s in (5.0, 20.0, 10.0):
        tags.set(b"a", "peer", expires_s)
    assert tags.has(b"a", "peer", 19)
    assert not tags.has(b"a", "peer", 20)


def test_what_was_set_longest_ago_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TAGS", 3)
    tags = HostTags()
    for number in range(100):
        tags.set(b"busy", "peer", 10.0)
        tags.set(number.to_bytes(4, "big"), "peer", 10.0)
        assert len(tags) <= 3
        assert tags.has(b"busy", "peer", 0)
    assert [n for n in range(100) if tags.has(n.to_bytes(4, "big"), "peer", 0)] == [98, 99]
