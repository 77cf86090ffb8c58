from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.compiler.database import DatabaseSearch, ExpressionError
from engine.compiler.expression import placed
from engine.compiler.search import TextSearch, is_sought, looked_for, search_for
from engine.language import syntax
from tests.compiler import written

_letters = st.lists(st.sampled_from(b"aAb\x00"), max_size=12).map(bytes)
_bounds = st.integers(-2, 14)


@given(_letters.filter(bool), st.booleans(), _letters, _bounds, _bounds, st.integers(1, 4))
def test_texts_are_found_as_hyperscan_finds_them(
    text: bytes, nocase: bool, payload: bytes, low: int, high: int, limit: int
) -> None:
    quoted = '"' + "".join(f"\\x{byte:02x}" for byte in text) + '"'
    (pattern,) = written.patterns(f"$a = {quoted}{' nocase' if nocase else ''}")
    search = search_for(pattern)
    assert isinstance(search, TextSearch)
    of_hyperscan = DatabaseSearch(placed(pattern, None)).count(payload, low, high, limit)
    assert search.count(payload, low, high, limit) == of_hyperscan


@pytest.mark.parametrize(
    ("body", "payload", "count"),
    [
        ('"aa"', b"aaaa", 3),
        ("/a+/", b"xaaa aa", 2),
        ("/a.*b/", b"aab ab", 1),
        ("{ 61 ?? }", b"aaa", 2),
        ('"A" nocase', b"aAa", 3),
        ('"x"', b"", 0),
    ],
)
def test_what_counts(body: str, payload: bytes, count: int) -> None:
    (pattern,) = written.patterns(f"$a = {body}")
    search = pickle.loads(pickle.dumps(search_for(pattern)))
    assert search.count(payload, 0, 1 << 62, 1000) == count
    assert search.count(payload, 0, 1 << 62, 1) == min(1, count)


def test_what_hyperscan_cannot_search_for_is_refused() -> None:
    (pattern,) = written.patterns("$a = /a*/")
    with pytest.raises(ExpressionError) as caught:
        search_for(pattern)
    assert set(caught.value.reasons) == {0}


@pytest.mark.parametrize(
    ("body", "match", "sought"),
    [
        ('"ab"', "$a", False),
        ('"ab"', "$a at 9", False),
        ('"ab"', "$a in 2..6", False),
        ('"ab"', "$a in 2..7", True),
        ("{ 41 ?? 42 }", "$a in 0..64", True),
        ("/a|b/", "$a in 0..64", True),
        ('"ab"', "$a at u8(0)", True),
        ('"ab"', "$a in 0..size", True),
        # A search does not see what stands before the range,
        (r"/\ba/", "$a in 0..64", False),
        # and Hyperscan does not tell every beginning.
        ("/a.{0,200}b/", "$a in 0..64", False),
    ],
)
def test_what_is_sought_after_the_trigger(body: str, match: str, sought: bool) -> None:
    (pattern,) = written.patterns(f"$a = {body}")
    condition = written.condition(match)
    assert isinstance(condition, syntax.Match)
    assert is_sought(pattern, condition.place) is sought
    anywhere = placed(pattern, None)
    assert (looked_for(pattern, condition.place) == anywhere) is (sought or match == "$a")
