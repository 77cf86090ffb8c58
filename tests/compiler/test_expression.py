from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.compiler.expression import byte_class, placed
from tests.compiler import written


def expression(named: str, when: str = "$a") -> tuple[str, bool]:
    (pattern,) = written.patterns(named)
    node = written.condition(when)
    found = placed(pattern, node.place)  # type: ignore[union-attr]
    return found.regex, found.nocase


@pytest.mark.parametrize(
    ("named", "when", "regex"),
    [
        (r'$a = "A\x00\n"', "$a", r"\x41\x00\x0a"),
        ('$a = "ü"', "$a", r"\xc3\xbc"),
        (
            "$a = { 41 ?? 4? ?f }",
            "$a",
            r"\x41.[\x40-\x4f]" + byte_class(frozenset(range(15, 256, 16))),
        ),
        ("$a = { 41 [2] 42 [0-3] 43 }", "$a", r"\x41.{2}\x42.{0,3}\x43"),
        ("$a = { ( 41 | 42 ( 43 | 44 ) ) }", "$a", r"(?:\x41|\x42(?:\x43|\x44))"),
        (r"$a = /a\/b|c/", "$a", r"a/b|c"),
        (r"$a = /a|b/", "$a at 0", r"^(?:a|b)"),
        (r"$a = /a|b/", "$a at 1 + 2", r"^.{3}(?:a|b)"),
        (r"$a = /a|b/", "$a in 3..4", r"^.{3}(?:a|b)"),
        (r"$a = /a|b/", "$a in 0..4", r"^.{0,3}(?:a|b)"),
        (r"$a = /a|b/", "$a in 0..64", r"^.{0,63}(?:a|b)"),
    ],
)
def test_expression(named: str, when: str, regex: str) -> None:
    assert expression(named, when) == (regex, False)


def test_case_is_a_flag() -> None:
    assert expression('$a = "x" nocase') == (r"\x78", True)


@given(st.frozensets(st.integers(0, 255), min_size=1))
def test_byte_class_holds_its_bytes_and_no_other(values: frozenset[int]) -> None:
    compiled = re.compile(byte_class(values).encode(), re.DOTALL)
    assert {b for b in range(256) if compiled.fullmatch(bytes([b]))} == values


@pytest.mark.parametrize(
    ("named", "bits"),
    [
        ('$a = "abcd"', 32),
        ('$a = "abcd" nocase', 25.6),
        ("$a = { 41 ?? 4? }", 12),
        ("$a = { 41 ( 42 43 | 44 ) }", 15),
        ("$a = /abcd[0-7]+ef/", 53),
    ],
)
def test_bits_say_what_is_pinned(named: str, bits: float) -> None:
    (pattern,) = written.patterns(named)
    assert placed(pattern, None).bits == pytest.approx(bits)
