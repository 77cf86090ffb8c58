"""What `btblocker check` prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.cli import main

ON = (Path(__file__).parent / "language/golden/pattern-unused.yaml").read_text()
OFF = ON.replace("example.protocol", "example.off").replace("then:", "enabled: false\nthen:")


@pytest.mark.parametrize(
    ("text", "summary"),
    [
        (ON, "1 signature, 2 tests: all well"),
        (OFF, "1 signature, 1 of them not in force, 2 tests: all well"),
        (f"{ON}---\n{OFF}", "2 signatures, 1 of them not in force, 4 tests: all well"),
    ],
    ids=["on", "off", "both"],
)
def test_check_counts_what_is_switched_off(
    text: str, summary: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.yaml").write_text(text)
    assert main(["check", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[-2] == summary


@pytest.mark.parametrize(
    ("profile", "said"), [("strict", ""), ("plain", ", 1 of them not in force")]
)
def test_check_loads_what_the_profile_asks_for(
    profile: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.yaml").write_text(ON.replace("then:", "certainty: guess\nthen:"))
    assert main(["check", str(tmp_path), "--detection-profile", profile]) == 0
    assert capsys.readouterr().out.splitlines()[-2] == f"1 signature{said}, 2 tests: all well"


def test_check_fails_when_a_test_of_one_that_is_switched_off_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.yaml").write_text(OFF.replace("'\"abcd\"'", "'\"ABCD\"'"))
    assert main(["check", str(tmp_path)]) == 1
    assert "error[S021]: `example.off`" in capsys.readouterr().out
