"""What the author of a signature is told, word for word.

Each mistake has a file `golden/NAME.yaml`, and `golden/NAME.txt` with what is said about it.
After a change of words: `pytest tests/language/test_diagnostics.py --update-golden`, then read
the difference.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from engine.language.diagnostics import (
    CODES,
    Diagnostic,
    SignatureError,
)
from engine.signatures import load

GOLDEN = Path(__file__).with_name("golden")
MISTAKES = sorted(path.stem for path in GOLDEN.glob("*.yaml"))


def told(folder: Path) -> list[Diagnostic]:
    try:
        ruleset = load(folder)
    except SignatureError as error:
        return list(error.diagnostics)
    return [*ruleset.warnings, *ruleset.self_test()]


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_told(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("signatures")
    folder.mkdir()
    (folder / f"{name}.yaml").write_bytes((GOLDEN / f"{name}.yaml").read_bytes())
    text = "\n\n".join(map(str, told(folder))) + "\n"
    golden = GOLDEN / f"{name}.txt"
    if request.config.getoption("--update-golden"):
        golden.write_text(text)
    assert text == golden.read_text()


def test_every_code_is_told_and_nothing_else() -> None:
    golden = "".join(path.read_text() for path in GOLDEN.glob("*.txt"))
    assert set(re.findall(r"^(?:error|warning)\[(\w+)\]", golden, re.MULTILINE)) == set(CODES)


def test_every_golden_text_belongs_to_a_mistake() -> None:
    assert sorted(path.stem for path in GOLDEN.glob("*.txt")) == MISTAKES
