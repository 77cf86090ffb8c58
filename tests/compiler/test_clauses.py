from __future__ import annotations

import itertools

import pytest
from hypothesis import assume, given

from engine.compiler.clauses import MAX_CLAUSES, find_clauses, numbered, trigger_decides
from engine.compiler.database import Database
from engine.compiler.expression import placed
from engine.compiler.normal import normalise
from engine.compiler.predicate import placed_patterns
from engine.language.diagnostics import has_errors
from tests.compiler import conditions, kleene, written
from tests.compiler.test_predicate import context, generous

NAMED = '$a = "A"\n$b = "B"\n$c = "C"\n$d = "D"'


@generous
@given(conditions.of_patterns_alone, conditions.patterns, conditions.payloads)
def test_clauses_mean_what_the_condition_means(when: str, named: str, payload: bytes) -> None:
    assume(not has_errors(written.checked(when, named)))
    normal, patterns = normalise(written.condition(when)), written.patterns(named)
    clauses = find_clauses(normal, patterns)
    assume(clauses is not None)
    assert clauses is not None
    expressions = list(dict.fromkeys(placed(*p) for p in placed_patterns(normal, patterns)))
    ids = {expression: number for number, expression in enumerate(expressions)}
    hits = frozenset(Database(expressions).scan(payload))
    meant = kleene.truth(written.condition(when), patterns, context(payload))
    assert any(clause.holds(hits) for clause in numbered(clauses, ids)) is (meant is True)


@pytest.mark.parametrize(
    ("when", "ways"),
    [
        ("$a", 1),
        ("$a and $b", 1),
        ("$a or $b and $c", 2),
        ("($a or $b) and ($c or $d)", 4),
        ("2 of them", 6),
        ("not 2 of them", 4),
        ("not all of ($a, $b)", 2),
        ("$a and not $b at 4", 1),
        ("$a and not $a", 0),
        ("$a in 0..4", 1),
        ("$a in 0..64", None),
        ("$a at u8(0)", None),
        ("$a and size > 4", None),
        ("count($a) >= 1", None),
    ],
)
def test_ways_to_be_true(when: str, ways: int | None) -> None:
    clauses = find_clauses(written.normal(when), written.patterns(NAMED))
    assert (None if clauses is None else len(clauses)) == ways


def test_too_many_ways_are_not_written_out() -> None:
    names = [f"$p{i}" for i in range(40)]
    named = written.patterns("\n".join(f'{name} = "{name[1:]}"' for name in names))
    assert find_clauses(written.normal("3 of them"), named) is None
    pairs = " and ".join(f"({a} or {b})" for a, b in itertools.pairwise(names[:14]))
    assert MAX_CLAUSES < 2**13
    assert find_clauses(written.normal(pairs), named) is None


@pytest.mark.parametrize(
    ("when", "decides"),
    [("$a", True), ("$a or 1 of ($b*)", True), ("$a and $b", False), ("$a or not $b", False)],
)
def test_a_trigger_decides_what_any_match_makes_true(when: str, decides: bool) -> None:
    clauses = find_clauses(written.normal(when), written.patterns(NAMED))
    assert clauses is not None
    assert trigger_decides(clauses) is decides
