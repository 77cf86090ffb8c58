from __future__ import annotations

from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.language.diagnostics import Source
from engine.language.lists import MAX_ENTRY_B, Entries, Lists, read_list
from engine.language.vocabulary import Type


def entries(text: str, kind: Type) -> Entries:
    found, mistakes = read_list(Source(Path("lists/a.txt"), text), kind)
    assert not mistakes
    return found


HOSTS = "# trackers\nTracker.Example\n\n  open.example.org   # the old one\ncolour#1\n"


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        (b"tracker.example", True),
        (b"TRACKER.example", True),
        (b"a.b.tracker.example", True),
        (b"xtracker.example", False),
        (b"example", False),
        (b"tracker.example.", False),
        (b"", False),
        (b"open.example.org", True),
        (b"example.org", False),
        (b"the old one", False),
        (b"colour#1", True),
        (b"." * 5000 + b"tracker.example", True),
        (b"." * 5000, False),
    ],
)
def test_hosts(text: bytes, inside: bool) -> None:
    assert (text in entries(HOSTS, Type.TEXT)) is inside


_labels = st.lists(st.sampled_from(["a", "b", "ab"]), min_size=1, max_size=4).map(".".join)


@given(st.lists(_labels, max_size=4), _labels)
def test_a_name_stands_for_itself_and_what_is_below(names: list[str], asked: str) -> None:
    below = any(asked == name or asked.endswith("." + name) for name in names)
    assert (asked.encode() in entries("\n".join(names), Type.TEXT)) is below


def test_numbers() -> None:
    found = entries("6881\n0x1AE2 # 6882\n0\n", Type.NUMBER)
    assert [n for n in (0, 1, 6881, 6882, 6883) if n in found] == [0, 6881, 6882]


_addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))


@given(st.lists(st.tuples(_addresses, st.integers(0, 128)), max_size=4), _addresses)
def test_networks(written: list[tuple[object, int]], asked: object) -> None:
    networks = [
        ip_network(f"{a}/{min(length, a.max_prefixlen)}", strict=False)  # type: ignore[attr-defined]
        for a, length in written
    ]
    found = entries("\n".join(map(str, networks)), Type.ADDRESS)
    for address in (asked, *(network[-1] for network in networks)):
        assert (address in found) is any(address in network for network in networks)  # type: ignore[operator]


def test_an_address_alone_is_a_network_of_one() -> None:
    found = entries("10.0.0.1\n::1", Type.ADDRESS)
    assert ip_address("10.0.0.1") in found  # type: ignore[operator]
    assert ip_address("10.0.0.2") not in found  # type: ignore[operator]
    assert ip_address("::1") in found  # type: ignore[operator]


@given(st.text(), st.sampled_from([Type.TEXT, Type.NUMBER, Type.ADDRESS]))
def test_any_text_is_read_or_refused_with_its_place(text: str, kind: Type) -> None:
    source = Source(Path("lists/a.txt"), text)
    for mistake in read_list(source, kind)[1]:
        span = mistake.span
        assert source.line(span.line)[span.column - 1 : span.end_column - 1].strip()
        assert str(mistake)


def test_entries_end_somewhere() -> None:
    _, mistakes = read_list(Source(Path("a.txt"), "a" * (MAX_ENTRY_B + 1)), Type.TEXT)
    assert [m.code for m in mistakes] == ["S025"]


def test_a_list_is_read_once_for_each_kind_of_question() -> None:
    lists = Lists({"a": Source(Path("lists/a.txt"), "1"), "b": Source(Path("lists/b.txt"), "")})
    assert lists.entries("a", Type.TEXT) is lists.entries("a", Type.TEXT)
    assert 1 in lists.entries("a", Type.NUMBER)  # type: ignore[operator]
    assert [d.message for d in lists.unused()] == ["`@b` is never used"]
