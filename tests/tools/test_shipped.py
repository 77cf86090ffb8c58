"""What a package ships of the code's own knowledge."""

from __future__ import annotations

import argparse
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.config import ENVIRONMENT, Settings, load_settings
from tools.shipped import parsers, write


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shipped")
    write(folder)
    return folder


def commands_of(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices


def test_the_manual_page_names_all_commands_and_variables(shipped: Path) -> None:
    done = subprocess.run(
        ["man", "--warnings", "--encoding=ascii", "--local-file", shipped / "man/btblocker.8"],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin", "MANWIDTH": "100", "LC_ALL": "C.UTF-8"},
    )
    assert done.stderr == ""
    titles = [line for line in done.stdout.splitlines() if line[:1].isalpha()][1:-1]
    expected = ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "COMMANDS", "ENVIRONMENT"]
    assert titles == [*expected, "EXIT STATUS", "SIGNALS", "FILES", "EXAMPLES", "SEE ALSO"]
    for command in commands_of(parsers()["btblocker"]):
        assert f"\n   btblocker {command}\n" in done.stdout
    for variable in ENVIRONMENT:
        assert f"\n       {variable}" in done.stdout


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["btblocker", "relo"], ["reload"]),
        (["btblocker", "run", "--xdp-m"], ["--xdp-mode"]),
        (["btblocker", "run", "--xdp-mode", ""], ["auto", "generic", "native", "off"]),
        (["btblocker-sigtest", "--expl"], ["--explain"]),
    ],
    ids=" ".join,
)
def test_bash_completes(shipped: Path, words: list[str], completed: list[str]) -> None:
    name = words[0]
    quoted = " ".join(f"'{word}'" for word in words)
    script = f"""
        source {shipped}/bash/{name}
        COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}
        function=$(complete -p {name} | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        $function {name} '{words[-1]}' '{words[-2]}' && printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert sorted(done.stdout.split()) == completed


def test_zsh_finds_the_completion_by_its_first_line(shipped: Path) -> None:
    for name in parsers():
        assert (shipped / f"zsh/_{name}").read_text().startswith(f"#compdef {name}\n")


def test_the_settings_file_holds_every_setting_and_each_would_be_taken(shipped: Path) -> None:
    file = shipped / "btblocker.toml"
    text = file.read_text()
    in_force = load_settings(file, {}, {})
    assert in_force.manage_rules
    assert in_force.model_dump(exclude={"manage_rules", "state_directory", "signatures"}) == (
        Settings().model_dump(exclude={"manage_rules", "state_directory", "signatures"})
    )

    file.write_text(text.replace("\n#", "\n").replace("\n ", "\n# "))
    try:
        assert set(tomllib.loads(file.read_text())) == set(Settings.model_fields)
        load_settings(file, {}, {})
    finally:
        file.write_text(text)
