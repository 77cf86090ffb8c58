from __future__ import annotations

import pytest

from engine.language.values import constant
from tests.compiler.written import condition


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2 * 3", 7),
        ("-7 / 2", -4),
        ("-7 % 2", 1),
        ("7 / 0", None),
        ("7 % 0", None),
        ("~0 & 0xff ^ 1 | 2", 0xFE),
        ("1 << 63", 1 << 63),
        ("1 << 64", None),
        ("1 >> -1", None),
        ("1.5", None),
        ("size", None),
        ("1 + size", None),
    ],
)
def test_constant(text: str, value: int | None) -> None:
    comparison = condition(f"{text} == 0")
    assert constant(comparison.left) == value  # type: ignore[union-attr]
