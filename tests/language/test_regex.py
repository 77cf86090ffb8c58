from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.compiler.database import Database, ExpressionError
from engine.compiler.expression import HsExpression
from engine.language.regex import MAX_POSITIONS, RegexError, check_regex, pinned_bits


@pytest.mark.parametrize(
    "expression",
    [
        r"GET [^ \r\n]*[?&]info_hash=[^ &\r\n]{20,60}[& ]",
        r"(a|b(c)){2}",
        r"(?:a)(?i:b)(?i)c",
        r"[)(]\(\)",
        r"[]()]x[^])]",
        r"[[:alpha:])]",
        r"a{2,}b{,3}{",
        r"(a{8}){8}" * 63,
        f"a{{{MAX_POSITIONS}}}",
        r"\x28\\",
    ],
)
def test_accepted(expression: str) -> None:
    check_regex(expression)


@pytest.mark.parametrize(
    ("expression", "reason", "offset"),
    [
        ("a)|(b", "closes nothing", 1),
        ("[)])", "closes nothing", 3),
        ("a(b(c)", "not closed", 1),
        ("(*UTF8)a", "bytes", 0),
        ("a(?#()b", "comments", 1),
        (r"\Q(\E", r"\Q", 0),
        ("(?ix)a", "extended", 0),
        ("(?x:a)", "extended", 0),
        (f"a{{{MAX_POSITIONS + 1}}}", "longer", 1),
        ("x(a{1,500}){1,500}y", "longer", 11),
        (".{1,30000}.{1,30000}y", "longer", 1),
        ("((((a{9}){9}){9}){9})", "longer", 17),
        ("a{" + "9" * 5000 + "}", "longer", 1),
        ("(a|b){4000}|(c|d){4000}", "longer", 5),
    ],
)
def test_refused(expression: str, reason: str, offset: int) -> None:
    with pytest.raises(RegexError) as caught:
        check_regex(expression)
    assert reason in caught.value.reason
    assert caught.value.offset == offset


_pieces = [
    "(",
    ")",
    "|",
    "a",
    "b",
    "[",
    "]",
    "^",
    "\\",
    "(?:",
    "*",
    "?",
    "{2}",
    "{0,3}",
    "[)]",
    "\\x41",
]


@given(st.lists(st.sampled_from(_pieces), min_size=1, max_size=10).map("".join))
def test_what_is_accepted_cannot_leave_its_place(expression: str) -> None:
    try:
        check_regex(expression)
        Database([HsExpression(f"^.{{3}}(?:{expression})z")])
    except (RegexError, ExpressionError):
        return
    # Hyperscan takes it in its place, so it takes it alone too.
    Database([HsExpression(f"(?:{expression})z")])
    assert Database([HsExpression(f"^.{{3}}(?:{expression})z")]).scan(b"x") == []


@pytest.mark.parametrize(
    ("expression", "bits"),
    [
        (r"\x00\x01\.x", 32),
        ("a.[0-7]", 13),
        (r"[^\x00]", 8 - math.log2(255)),
        ("[^a-z]?a+b*c{2}d{3,}e{0,4}", 48),
        ("abcd|e", 8),
        ("(ab|c(d|ef))g|hijk", 24),
        ("(?:ab|cd){2}", 32),
        (r"^a\b", 8),
        ("()", 0),
        ("{2}", 0),
        ("ü", 0),
    ],
)
def test_bits_that_are_pinned(expression: str, bits: float) -> None:
    assert pinned_bits(expression) == pytest.approx(bits)


@given(st.lists(st.sampled_from(_pieces), max_size=12).map("".join))
def test_bits_of_what_is_accepted(expression: str) -> None:
    try:
        check_regex(expression)
    except RegexError:
        return
    assert 0 <= pinned_bits(expression) <= 8 * MAX_POSITIONS
