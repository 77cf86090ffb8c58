"""Long patterns are bounded together, too."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.language.budget import LARGE_B, MAX_LARGE_B, check_budget
from engine.language.diagnostics import SignatureError
from engine.language.regex import MAX_POSITIONS, written_out
from engine.signatures import load
from tests.compiler import written


@pytest.mark.parametrize(
    ("body", "length_b"),
    [
        ("{ 41 ?? [4-16] 42 }", 19),
        ("{ 41 ( 42 | 43 [7] 44 ) [0] }", 11),
        ("/ab{3}c/", 5),
        ("/(ab{3}){2}|c/", 9),
    ],
)
def test_written_out(body: str, length_b: int) -> None:
    (pattern,) = written.patterns(f"$a = {body}")
    assert written_out(pattern.body) == length_b  # type: ignore[arg-type]


def long(when: str = "$a", body: str = f"/x{{{MAX_POSITIONS}}}/") -> tuple[str, str]:
    return when, f"$a = {body}"


def mistakes(*signatures: tuple[str, str]) -> list[str]:
    return [d.code for d in check_budget([written.signature(*s) for s in signatures])]


def test_long_patterns_share_a_budget() -> None:
    fitting = [long()] * (MAX_LARGE_B // MAX_POSITIONS)
    assert mistakes(*fitting) == []
    assert mistakes(*fitting, long(body=f"/x{{{LARGE_B}}}/")) == []
    assert mistakes(*fitting, long(body=f"/x{{{LARGE_B + 1}}}/")) == ["S023"]
    assert mistakes(*fitting, long(body=f"{{ 41 [{LARGE_B}] }}")) == ["S023"]
    when = f"http.host matches /x{{{LARGE_B + 1}}}/ and $a"
    assert mistakes(*fitting, long(when, '"ABCD"')) == ["S023"]


def test_texts_are_free() -> None:
    assert mistakes(*[("$a", f'$a = "{"x" * 10_000}"')] * 100) == []


def test_a_folder_over_the_budget_is_refused_before_it_is_compiled(tmp_path: Path) -> None:
    document = """\
id: lab.long.n{number}
title: Long
scope: {{transport: udp}}
patterns: |
  $a = /x{number}[ab]{{{length}}}c/
when: |
  $a
then: {{action: log}}
tests:
  - {{expect: match, payload: 'repeat(2, "x{number}") repeat({length}, "a") "c"'}}
  - {{expect: no match, payload: ''}}
"""
    count = MAX_LARGE_B // 4000 + 1
    lengths = [4000, 4050, *[4000] * count]
    texts = [document.format(number=n, length=length) for n, length in enumerate(lengths)]
    (tmp_path / "a.yaml").write_text("---\n".join(texts))
    with pytest.raises(SignatureError) as caught:
        load(tmp_path)
    (told,) = caught.value.diagnostics
    assert told.code == "S023"
    assert f"the limit is {MAX_LARGE_B}" in told.message
    assert (told.span.line, told.span.column) == (17, 8)
