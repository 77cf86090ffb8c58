"""What is printed is read as what it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.language import syntax
from engine.language.builder import MAX_HEX_JUMP_B, PRECEDENCE
from engine.language.diagnostics import Fragment, Source, Span
from engine.language.parser import parse_condition, parse_patterns, parse_payload
from engine.language.printer import print_condition, print_patterns, print_payload
from engine.language.regex import MAX_POSITIONS, written_out
from engine.paths import shipped_signatures
from engine.signatures import load

SPAN = Span(1, 1, 1, 2)


def fragment(text: str) -> Fragment:
    return Fragment(Source(Path("a.yaml"), text), text, 1, 1)


def built(node: Any, *fields: st.SearchStrategy[Any], **named: st.SearchStrategy[Any]) -> Any:
    return st.builds(node, *fields, span=st.just(SPAN), **named)


# --- patterns

_names = st.from_regex(r"\$[A-Za-z_][A-Za-z0-9_]{0,3}", fullmatch=True)
_hex_bytes = built(
    syntax.HexByte,
    value=st.just(0),
    mask=st.sampled_from([0xFF, 0xF0, 0x0F, 0]),
).flatmap(
    lambda byte: st.integers(0, 255).map(
        lambda value: syntax.HexByte(value=value & byte.mask, mask=byte.mask, span=SPAN)
    )
)
_jumps = st.tuples(st.integers(0, MAX_HEX_JUMP_B), st.integers(0, MAX_HEX_JUMP_B)).map(
    lambda bounds: syntax.HexJump(low=min(bounds), high=max(bounds), span=SPAN)
)
_items = st.recursive(
    st.one_of(_hex_bytes, _jumps),
    lambda inner: built(
        syntax.HexChoice,
        options=st.lists(
            st.lists(inner, min_size=1, max_size=3).map(tuple), min_size=2, max_size=3
        ).map(tuple),
    ),
    max_leaves=6,
)
_texts = built(syntax.TextBody, value=st.binary(max_size=8))
_hexes = built(syntax.HexBody, items=st.lists(_items, min_size=1, max_size=4).map(tuple)).filter(
    lambda body: written_out(body) <= MAX_POSITIONS
)
_regexes = built(
    syntax.RegexBody,
    expression=st.lists(
        st.sampled_from(
            ["a", "/", r"\\", r"\.", "[/x]", ".", "(a|b)", "x{2,3}", r"\x2f", '"', "#"]
        ),
        min_size=1,
        max_size=5,
    ).map("".join),
)
patterns = st.lists(
    built(
        syntax.Pattern,
        name=_names,
        body=st.one_of(_texts, _hexes, _regexes),
        nocase=st.booleans(),
    ),
    max_size=4,
).map(tuple)


@given(patterns)
def test_patterns(written: tuple[syntax.Pattern, ...]) -> None:
    assert parse_patterns(fragment(print_patterns(written))) == written


# --- conditions

_numbers = st.one_of(
    st.integers(0, 300),
    st.integers(0, (1 << 64) - 1),
    st.floats(0, 1e15, allow_nan=False).map(lambda value: value + 0.0),
    st.sampled_from([1e-7, 0.1, 5e-324]),
)
_fields = st.sampled_from(
    ["size", "src.port", "bencode.a.id", "PORTS", "counter", "order", "knowing", "matchesx"]
)
_atoms = st.one_of(
    built(syntax.Number, value=_numbers),
    built(syntax.Text, value=st.binary(max_size=5)),
    built(syntax.Term, name=_fields),
    built(syntax.Count, pattern=_names),
)


def _ranges(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return built(syntax.Range, low=inner, high=inner)


def _places(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), inner, _ranges(inner))


def _expressions(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(inner, min_size=2, max_size=3).map(tuple)
    arguments = st.lists(inner, min_size=1, max_size=2).map(tuple)
    networks = built(
        syntax.Network,
        value=st.one_of(
            st.ip_addresses(v=4).map(lambda a: f"{a}/32"),
            st.ip_addresses(v=6).map(lambda a: f"{a}/128"),
            st.sampled_from(["10.0.0.0/8", "::/0", "2001:db8::/32"]),
        ).map(_network),
    )
    items = st.lists(st.one_of(inner, _ranges(inner), networks), min_size=1, max_size=3)
    containers = st.one_of(
        _ranges(inner),
        networks,
        built(syntax.Choice, items=items.map(tuple)),
        built(syntax.ListReference, name=st.sampled_from(["hosts", "a_1"])),
        built(syntax.Term, name=st.just("PORTS")),
    )
    prefixes = _names.map(lambda name: name + "*")
    return st.one_of(
        built(syntax.Term, st.sampled_from(["u8", "a.b"]), arguments),
        built(
            syntax.Term,
            st.sampled_from(["turn(n).u16"]),
            st.lists(inner, min_size=1, max_size=3).map(tuple),
        ),
        built(syntax.Count, pattern=_names, place=st.one_of(st.none(), _ranges(inner))),
        built(syntax.Known, operand=inner),
        built(syntax.Unary, operator=st.sampled_from("-~"), operand=inner),
        built(
            syntax.Arithmetic, operator=st.sampled_from(list(PRECEDENCE)), left=inner, right=inner
        ),
        built(
            syntax.Comparison,
            operator=st.sampled_from(get_args(syntax.ComparisonOperator)),
            left=inner,
            right=inner,
        ),
        built(
            syntax.TextComparison,
            operator=st.sampled_from(get_args(syntax.TextOperator)),
            left=inner,
            right=inner,
        ),
        built(syntax.Matches, text=inner, regex=_regexes, nocase=st.booleans()),
        built(syntax.Member, operand=inner, container=containers),
        built(syntax.Match, pattern=_names, place=_places(inner)),
        built(
            syntax.Of,
            quantity=st.one_of(st.integers(1, 9), st.sampled_from(["any", "all"])),
            patterns=st.lists(st.one_of(_names, prefixes), max_size=2).map(tuple),
            place=_places(inner),
        ),
        built(syntax.Not, operand=inner),
        built(syntax.And, operands=several),
        built(syntax.Or, operands=several),
    )


def _network(text: str) -> Any:
    import ipaddress

    return ipaddress.ip_network(text)


conditions = st.recursive(_atoms, _expressions, max_leaves=12)


@settings(max_examples=500)
@given(conditions)
def test_conditions(condition: syntax.Expression) -> None:
    assert parse_condition(fragment(print_condition(condition))) == condition


@pytest.mark.parametrize(
    "text",
    [
        "$a and ($b or not $c) and size - (4 - 2) - 1 == 2 * (3 + 4)",
        "not (u8(0) & 15 == 1 or $a) or -u8(1) < ~3",
        "count($a in 0..64) >= 3 and $b at u8(3) + 1",
        'http.host icontains "x" and src.ip in 10.0.0.0/8 and http.host in @hosts',
        "turn(0).u16(4) in 1..9 and 2 of ($a*, $b) in 0..4",
        "not known(tls.sni) and known(u8(3) + 1) and src.port in [80, 6881..6890]",
        r"http.path matches /^\/a\/[0-9]+$/ or not src.ip in [10.0.0.0/8, ::1/128]",
    ],
)
def test_parentheses_stand_only_where_they_are_needed(text: str) -> None:
    assert print_condition(parse_condition(fragment(text))) == text


# --- payloads

_small = built(syntax.Number, value=st.integers(0, 99))
_parts = st.recursive(
    st.one_of(
        _texts,
        _hexes,
        built(
            syntax.Term,
            st.sampled_from(["zeros", "u16", "random", "repeated"]),
            st.lists(_small, min_size=1, max_size=2).map(tuple),
        ),
    ),
    lambda inner: built(
        syntax.Repeat, times=_small, parts=st.lists(inner, min_size=1, max_size=3).map(tuple)
    ),
    max_leaves=5,
)
payloads = st.lists(_parts, max_size=5).map(tuple)


@given(payloads)
def test_payloads(parts: tuple[syntax.PayloadPart, ...]) -> None:
    assert parse_payload(fragment(print_payload(parts))) == parts


@pytest.mark.parametrize("signature", load(shipped_signatures()).signatures, ids=lambda s: s.id)
def test_what_is_shipped(signature: Any) -> None:
    assert parse_condition(fragment(print_condition(signature.condition))) == signature.condition
    assert parse_patterns(fragment(print_patterns(signature.patterns))) == signature.patterns
