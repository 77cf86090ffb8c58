from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.fields import VOCABULARY
from engine.language import syntax
from engine.language.diagnostics import Fragment, MistakeError, Source, has_errors
from engine.language.parser import parse_condition, walk
from engine.language.variables import MAX_ITEMS, Filling, read_variables

VARS = """
SMALL: 4
NAME: "uTP"
PORTS: [6881, 6889]
KINDS: ["q", 'r']
OFFICE: [10.0.0.0/8, "2001:db8::/32"]
ONE: 192.168.0.0/16
"""


def filling(text: str = VARS) -> Filling:
    variables, mistakes = read_variables(Source(Path("vars.yaml"), text), VOCABULARY)
    assert not mistakes
    return Filling(variables, VOCABULARY)


def condition(text: str) -> syntax.Expression:
    return parse_condition(Fragment(Source(Path("a.yaml"), text), text, 1, 1))


@pytest.mark.parametrize(
    ("named", "plain"),
    [
        ("size >= SMALL", "size >= 4"),
        ("$a at SMALL + 1", "$a at 4 + 1"),
        ("count($a in SMALL..8) == SMALL", "count($a in 4..8) == 4"),
        ("u8(SMALL) in [SMALL, 5]", "u8(4) in [4, 5]"),
        ("size in SMALL..100", "size in 4..100"),
        ('bencode.v startswith NAME or NAME == "x"', 'bencode.v startswith "uTP" or "uTP" == "x"'),
        ("src.port in PORTS", "src.port in [6881, 6889]"),
        ("not bencode.y in KINDS", 'not bencode.y in ["q", "r"]'),
        ("src.ip in ONE", "src.ip in 192.168.0.0/16"),
        ("src.ip in OFFICE", "src.ip in 10.0.0.0/8 or src.ip in 2001:db8::/32"),
        (
            'http.host in ["a"] and http.path == ONE',
            'http.host in ["a"] and http.path == "192.168.0.0/16"',
        ),
    ],
)
def test_a_name_stands_for_its_constant(named: str, plain: str) -> None:
    source = Source(Path("a.yaml"), named)
    assert filling().fill(condition(named), source) == condition(plain)


def test_what_is_filled_in_stands_where_the_name_does() -> None:
    filled = filling().fill(condition("size > 1 and src.port in PORTS"), Source(Path("a"), ""))
    assert filled is not None
    (choice,) = [node for node in walk(filled) if isinstance(node, syntax.Choice)]
    assert {item.span.column for item in choice.items} == {choice.span.column} == {26}


def test_what_does_not_fit_is_left() -> None:
    for text in ("size == PORTS", "src.port in SMALL", "src.ip in KINDS", "UNKNOWN == 1"):
        assert filling().fill(condition(text), Source(Path("a"), "")) == condition(text)


def test_unused() -> None:
    some = filling()
    some.fill(condition("size == SMALL and src.ip in ONE"), Source(Path("a"), ""))
    assert [d.message.split("`")[1] for d in some.unused()] == ["NAME", "PORTS", "KINDS", "OFFICE"]


def test_a_condition_is_not_blown_up() -> None:
    some = filling(f"A: {list(range(MAX_ITEMS))}")
    text = " or ".join(["size in A"] * 1000)
    with pytest.raises(MistakeError) as caught:
        some.fill(condition(text), Source(Path("a"), text))
    assert caught.value.diagnostic.code == "S023"


@given(
    st.one_of(
        st.text(),
        st.dictionaries(
            st.text(max_size=5), st.integers() | st.text() | st.lists(st.integers())
        ).map(str),
        st.lists(
            st.sampled_from(["A: ", "1", "\n", "[", "]", "{", ", ", "- ", "&a ", "*a", "!!x "])
        ).map("".join),
    )
)
def test_any_text_is_read_or_refused(text: str) -> None:
    variables, diagnostics = read_variables(Source(Path("vars.yaml"), text), VOCABULARY)
    assert all(str(d) for d in diagnostics)
    if not has_errors(diagnostics):
        assert all(v.value != () for v in variables.values())
