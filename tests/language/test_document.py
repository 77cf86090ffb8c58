from __future__ import annotations

from pathlib import Path

import pytest

from engine.language.diagnostics import Source
from engine.language.document import MAX_MISTAKES, read

WHOLE = """\
id: lab.chat.hello
title: A greeting
scope: {transport: udp}
patterns: |
  $hello = "hello"
when: |
  $hello at 0
then: {action: block, threshold: {count: 3, per: src, within: 2m}}
tests:
  - {expect: match, payload: '"hello" zeros(2)'}
  - {expect: no match, payload: '"help"'}
"""


def mistakes(text: str) -> list[tuple[str, int, int]]:
    _, diagnostics = read(Source(Path("a.yaml"), text))
    return [(d.code, d.span.line, d.span.column) for d in diagnostics]


def test_whole_signature() -> None:
    (found,), diagnostics = read(Source(Path("a.yaml"), WHOLE))
    assert diagnostics == []
    assert (found.id, found.rev, found.transport, found.inspect) == (
        "lab.chat.hello",
        1,
        "udp",
        "packet",
    )
    assert [p.name for p in found.patterns] == ["$hello"]
    assert found.then.threshold is not None
    assert (found.then.threshold.count, found.then.threshold.within) == (3, 120)
    assert [(t.payload, t.must_match) for t in found.tests] == [
        (b"hello\0\0", True),
        (b"help", False),
    ]
    assert not found.always


@pytest.mark.parametrize(
    ("scope", "inspect"),
    [
        ("{transport: udp}", "packet"),
        ("{transport: tcp}", "stream"),
        ("{transport: tcp, inspect: packet}", "packet"),
        ("{transport: tcp, inspect: stream}", "stream"),
    ],
)
def test_what_is_inspected(scope: str, inspect: str) -> None:
    (found,), _ = read(Source(Path("a.yaml"), WHOLE.replace("{transport: udp}", scope)))
    assert found.inspect == inspect


@pytest.mark.parametrize(
    ("within", "seconds"), [("1s", 1), ("5m", 300), ("2h", 7200), ("30d", 30 * 86400)]
)
def test_durations(within: str, seconds: int) -> None:
    (found,), _ = read(Source(Path("a.yaml"), WHOLE.replace("2m", within)))
    assert found.then.threshold is not None
    assert found.then.threshold.within == seconds


@pytest.mark.parametrize("within", ["0s", "31d", "10", "1.5h", "-1s", "1 s", "[]", "1w"])
def test_wrong_durations(within: str) -> None:
    assert mistakes(WHOLE.replace("2m", within)) == [("S006", 8, 63)]


def test_documents_without_anything_are_passed_over() -> None:
    signatures, diagnostics = read(Source(Path("a.yaml"), f"---\n---\n{WHOLE}---\n# end\n"))
    assert len(signatures) == 1
    assert diagnostics == []


def test_a_mistake_in_one_document_leaves_the_others() -> None:
    signatures, diagnostics = read(Source(Path("a.yaml"), f"id: x\n---\n{WHOLE}"))
    assert [s.id for s in signatures] == ["lab.chat.hello"]
    assert {d.span.line for d in diagnostics} == {1}


def test_reading_ends_after_many_mistakes() -> None:
    found = mistakes("{}\n---\n" * 10_000)
    assert MAX_MISTAKES < len(found) < MAX_MISTAKES + 20
    assert found[-1][0] == "S023"


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("$hello at 0", "\n\n  $hello nad", ("S010", 9, 10)),
        ("when: |\n  $hello at 0", "when: |2\n      $hello nad", ("S010", 7, 14)),
        ("when: |\n  $hello at 0", "when: |-\n     $hello nad", ("S010", 7, 13)),
        ("when: |\n", "when: | # why\n  # because\n  $hello or or\n", ("S010", 8, 13)),
        # YAML breaks lines at U+2028 and U+2029 too.
        ("A greeting\n", "A greeting # \u2028# \u2029rew: 2\n", ("S004", 4, 1)),
        ("$hello at 0", "# \u2028  $hello nad", ("S010", 8, 10)),
        ("""'"help"'""", """'"he\\lp"'""", ("S017", 11, 37)),
        ("""'"help"'""", """'"it''s\\q"'""", ("S017", 11, 33)),
        ("""'"help"'""", '''"\\"he\\\\lp\\""''', ("S017", 11, 33)),
    ],
    ids=[
        "blank lines first",
        "indentation indicator",
        "chomping indicator",
        "remarks",
        "line separators in a remark of YAML's",
        "line separator in a condition",
        "payload as it is written",
        "payload with a quote written twice",
        "payload with escapes of YAML's",
    ],
)
def test_places(old: str, new: str, place: tuple[str, int, int]) -> None:
    assert mistakes(WHOLE.replace(old, new)) == [place]
