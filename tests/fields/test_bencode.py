from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.fields.bencode import MAX_DEPTH, MAX_ITEMS, Value, parse

values = st.recursive(
    st.one_of(st.integers(-(2**63), 2**64 - 1), st.binary(max_size=30)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.binary(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
dictionaries = st.dictionaries(st.binary(max_size=8), values, max_size=5)


def encode(value: Value) -> bytes:
    match value:
        case int():
            return b"i%de" % value
        case bytes():
            return b"%d:%s" % (len(value), value)
        case list():
            return b"l" + b"".join(map(encode, value)) + b"e"
        case dict():
            pairs = sorted(value.items())
            return b"d" + b"".join(encode(k) + encode(v) for k, v in pairs) + b"e"


@given(dictionaries, st.binary(max_size=10))
def test_round_trip(items: dict[bytes, Value], trailer: bytes) -> None:
    encoded = encode(items)
    found = parse(encoded + trailer)
    assert found is not None
    assert found.items == items
    assert found.end == len(encoded)


@given(dictionaries, st.data())
def test_cut_anywhere_is_nothing(items: dict[bytes, Value], data: st.DataObject) -> None:
    encoded = encode(items)
    assert parse(encoded[: data.draw(st.integers(0, len(encoded) - 1))]) is None


@given(
    st.one_of(
        st.binary(max_size=60),
        st.lists(st.sampled_from(b"dlie0123456789:-a"), max_size=40).map(lambda b: b"d" + bytes(b)),
    )
)
def test_no_bytes_make_it_raise(payload: bytes) -> None:
    found = parse(payload)
    if found is not None:
        assert payload[:1] == b"d"
        assert payload[found.end - 1 : found.end] == b"e"
        found.text(b"a", b"b")


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"le",
        b"i1e",
        b"d",
        b"d1:a",
        b"d1:ae",
        b"di1ei2ee",
        b"d1:ai1",
        b"d1:aie",
        b"d1:ai-e",
        b"d1:ai1xe",
        b"d1:ai--1ee",
        b"d1:ai" + b"1" * 21 + b"ee",
        b"d1:a2:bbb",
        b"d1:a9:be",
        b"d1:a1234567:e",
        b"d-1:ae",
        b"d1a1:be",
        b"d1:axe",
        b"d1:a\xb22:bbe",
    ],
)
def test_malformed(payload: bytes) -> None:
    assert parse(payload) is None


def test_nesting_is_bounded() -> None:
    def nested(depth: int) -> bytes:
        return b"d1:a" + b"l" * (depth - 1) + b"e" * depth

    assert parse(nested(MAX_DEPTH)) is not None
    assert parse(nested(MAX_DEPTH + 1)) is None
    assert parse(b"d1:a" + b"l" * 65000) is None


def test_items_are_bounded() -> None:
    assert parse(b"d1:al" + b"i1e" * (MAX_ITEMS - 10) + b"ee") is not None
    assert parse(b"d1:al" + b"i1e" * (MAX_ITEMS + 1) + b"ee") is None


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((b"a", b"id"), b"xyz"),
        ((b"y",), b"q"),
        ((b"a",), None),
        ((b"n",), None),
        ((b"missing",), None),
        ((b"a", b"missing"), None),
        ((b"y", b"id"), None),
    ],
)
def test_text_at_a_path(path: tuple[bytes, ...], text: bytes | None) -> None:
    found = parse(b"d1:ad2:id3:xyze1:ni5e1:y1:qe")
    assert found is not None
    assert found.text(*path) == text


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (b"li203e5:wordse", 203),
        (b"li-1ee", -1),
        (b"le", None),
        (b"l5:wordsi203ee", None),
        (b"lli203eee", None),
        (b"i203e", None),
        (b"3:203", None),
    ],
)
def test_code_of_an_error(error: bytes, code: int | None) -> None:
    found = parse(b"d1:e" + error + b"1:y1:ee")
    assert found is not None
    assert found.error_code == code
