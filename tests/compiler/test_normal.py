from __future__ import annotations

import pytest
from hypothesis import assume, given

from engine.compiler.normal import normalise
from engine.language import syntax
from engine.language.diagnostics import has_errors
from engine.language.parser import walk
from tests.compiler import conditions, written


@pytest.mark.parametrize(
    ("when", "normal"),
    [
        ("not not $a", "$a"),
        ("not ($a and $b)", "not $a or not $b"),
        ("not ($a or not $b)", "not $a and $b"),
        ("not size == 1", "size != 1"),
        ("not size < 1", "size >= 1"),
        ("not size > 1", "size <= 1"),
        ("size in 1..4", "size >= 1 and size < 4"),
        ("not size in 1..4", "size < 1 or size >= 4"),
        ("$a and ($b and ($c and $d))", "$a and $b and $c and $d"),
        ("$a or size in 1..4 or ($b or $c)", "$a or (size >= 1 and size < 4) or $b or $c"),
        ("$a and size in 1..4", "$a and size >= 1 and size < 4"),
        ("not any of them", "not any of them"),
        ("not size in [1, 2]", "not size in [1, 2]"),
        ("size not in [1, 2]", "not size in [1, 2]"),
        ("size in [1, 2..4, 7]", "size in [1, 7] or (size >= 2 and size < 4)"),
        ("size not in [2..4, 7]", "not size in [7] and (size < 2 or size >= 4)"),
        ("size in [2..4]", "size >= 2 and size < 4"),
        ("src.ip in [::1, 10.0.0.0/8] or $a", "src.ip in ::1 or src.ip in 10.0.0.0/8 or $a"),
        ("not known(u8(0))", "not known(u8(0))"),
        ("not bencode.y matches /q/", "not bencode.y matches /q/"),
    ],
)
def test_normal_form(when: str, normal: str) -> None:
    assert written.normal(when) == written.condition(normal)


WITHOUT_OPPOSITE = (
    syntax.Term
    | syntax.Known
    | syntax.Match
    | syntax.Of
    | syntax.Member
    | syntax.Matches
    | syntax.TextComparison
)


@given(conditions.conditions, conditions.patterns)
def test_negations_stand_on_what_has_no_opposite(when: str, named: str) -> None:
    assume(not has_errors(written.checked(when, named)))
    normal = normalise(written.condition(when))
    for node in walk(normal):
        if isinstance(node, syntax.Not):
            assert isinstance(node.operand, WITHOUT_OPPOSITE)
        if isinstance(node, syntax.Member):
            assert not isinstance(node.container, syntax.Range)
            assert not isinstance(node.container, syntax.Choice) or not node.container.stretches
        if isinstance(node, syntax.And | syntax.Or):
            assert not any(type(operand) is type(node) for operand in node.operands)
    assert normalise(normal) == normal
