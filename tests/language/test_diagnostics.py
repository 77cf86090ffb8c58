"""What the author of a signature is told, word for word.

Each mistake has a file `golden/NAME.yaml`, or a folder `golden/NAME` where it takes several
files, and `golden/NAME.txt` with what is said about it.
After a change of words: `pytest tests/language/test_diagnostics.py --update-golden`, then read
the difference.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from engine.language.diagnostics import CODES, Diagnostic, SignatureError, Source, Span, nearest
from engine.selftest import self_test
from engine.signatures import load

GOLDEN = Path(__file__).with_name("golden")
MISTAKES = sorted(path.stem for path in GOLDEN.iterdir() if path.suffix != ".txt")


def told(folder: Path) -> list[Diagnostic]:
    try:
        ruleset = load(folder)
    except SignatureError as error:
        return list(error.diagnostics)
    return [*ruleset.warnings, *self_test(ruleset)]


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_told(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("signatures")
    if (GOLDEN / name).is_dir():
        shutil.copytree(GOLDEN / name, folder)
    else:
        folder.mkdir()
        (folder / f"{name}.yaml").write_bytes((GOLDEN / f"{name}.yaml").read_bytes())
    text = "\n\n".join(map(str, told(folder))) + "\n"
    golden = GOLDEN / f"{name}.txt"
    if request.config.getoption("--update-golden"):
        golden.write_text(text)
    assert text == golden.read_text()


def test_every_code_is_told_and_nothing_else() -> None:
    golden = "".join(path.read_text() for path in GOLDEN.glob("*.txt"))
    told_here = set(re.findall(r"^(?:error|warning)\[(\w+)\]", golden, re.MULTILINE))
    # The kernel's own words depend on its version: see tests/enforce/test_program_bans.py.
    assert told_here | {"S105"} == set(CODES)


def test_every_golden_text_belongs_to_a_mistake() -> None:
    assert sorted(path.stem for path in GOLDEN.glob("*.txt")) == MISTAKES


def shown(line: str, start: int, end: int) -> tuple[str, str]:
    """The source line and the line below it, behind their margins."""
    diagnostic = Diagnostic("S010", "", Source(Path("a"), line), Span(1, start, 1, end), "hint")
    *_, source, carets = str(diagnostic).split("\n")
    return source[4:], carets[4:]


@pytest.mark.parametrize(
    ("line", "start", "end", "carets"),
    [
        ("abc def", 5, 8, "    ^^^ hint"),
        ("abc", 4, 5, "   ^ hint"),
        ("abc", 2, 99, " ^^ hint"),
        ("a\tb c", 3, 4, " \t^ hint"),
    ],
)
def test_carets_stand_under_the_mistake(line: str, start: int, end: int, carets: str) -> None:
    assert shown(line, start, end) == (line, carets)


@pytest.mark.parametrize("start", [1, 40, 99, 101, 500, 997])
def test_long_lines_are_cut_around_the_mistake(start: int) -> None:
    line = "".join(chr(0x100 + i % 1000) for i in range(1000))
    source, carets = shown(line, start, start + 3)
    assert len(source) <= 100
    at = carets.index("^")
    assert source[at : at + 3] == line[start - 1 : start + 2]


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("siez", ["size", "entropy"], "did you mean `size`?"),
        ("xyz", ["b", "a"], "known: `a`, `b`"),
        ("xyz", [], ""),
        ("xyz", [f"name{i}" for i in range(13)], ""),
    ],
)
def test_nearest(name: str, known: list[str], hint: str) -> None:
    assert nearest(name, known) == hint


def test_json_says_the_same() -> None:
    diagnostic = Diagnostic("S101", "m", Source(Path("a.yaml"), "x"), Span(1, 2, 3, 4), "h")
    assert diagnostic.as_json() == {
        "code": "S101",
        "severity": "warning",
        "message": "m",
        "hint": "h",
        "file": "a.yaml",
        "line": 1,
        "column": 2,
        "end_line": 3,
        "end_column": 4,
    }
