from __future__ import annotations

import pytest

from engine.language.places import matched_names
from tests.compiler.written import patterns

NAMED = '$a = "aaaa"\n$b = "bbbb"\n$b2 = "cccc"'


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ([], ["$a", "$b", "$b2"]),
        (["$b"], ["$b"]),
        (["$b*"], ["$b", "$b2"]),
        (["$*"], ["$a", "$b", "$b2"]),
        (["$b2", "$a"], ["$a", "$b2"]),
        (["$b*", "$b"], ["$b", "$b2"]),
        (["$c*"], []),
    ],
)
def test_matched_names(names: list[str], found: list[str]) -> None:
    assert matched_names(names, patterns(NAMED)) == found
