from __future__ import annotations

import pickle

import pytest

from engine.compiler.database import Database, ExpressionError
from engine.compiler.expression import HsExpression

THREE = [HsExpression("abc"), HsExpression("^.{2}c"), HsExpression(r"\x00\xff", nocase=True)]


@pytest.mark.parametrize(
    ("payload", "hits"),
    [
        (b"", []),
        (b"xyz", []),
        (b"abcabcabc", [0, 1]),
        (b"xxc", [1]),
        (b"\x00\xff\x00\xff", [2]),
        (b"ABC", []),
        (b"\nabc", [0]),
        (b"\n\nc", [1]),
    ],
)
def test_each_expression_hits_once(payload: bytes, hits: list[int]) -> None:
    database = Database(THREE)
    assert sorted(database.scan(payload)) == hits
    assert sorted(pickle.loads(pickle.dumps(database)).scan(payload)) == hits


def test_nothing_to_look_for() -> None:
    for database in (Database([]), pickle.loads(pickle.dumps(Database([])))):
        assert database.scan(b"abc") == []
        assert database.size_bytes == 0


def test_refused_expressions_are_named_by_position() -> None:
    with pytest.raises(ExpressionError) as caught:
        Database([HsExpression("ok"), HsExpression("a(?=b)"), HsExpression("ü")])
    assert set(caught.value.reasons) == {1, 2}
    assert "ASCII" in caught.value.reasons[2]
