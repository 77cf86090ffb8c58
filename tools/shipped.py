"""Writes what a package ships and only the code knows: manual pages, tab completion, settings.

Run as `python -m tools.shipped FOLDER`; the package's build does, so none of it is ever kept
beside the code that it could fall behind. Under FOLDER come to stand:

    man/btblocker.8, man/btblocker-sigtest.1    from the parsers, and packaging/man
    bash/NAME, zsh/_NAME                        completion, from the parsers
    btblocker.toml                              every setting, with its default or an example
"""

from __future__ import annotations

import argparse
import functools
import itertools
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import shtab
from argparse_manpage.manpage import Manpage
from pydantic_core import PydanticUndefined

import engine.cli
import engine.sigtest.command
from engine.config import ENVIRONMENT, Settings

_PACKAGING: Final = Path(__file__).resolve().parent.parent / "packaging"

SIGTEST: Final = "btblocker-sigtest"

_FILES: Final = ("CAPTURE", "FILE", "LIST", "MANIFEST", "PATH", "OLD")
_FOLDERS: Final = ("DIR",)

# What a service needs; the state is where systemd's StateDirectory= has it, too.
_SET: Final = {
    "manage_rules": "true",
    "signatures": '"/etc/btblocker/signatures"',
    "state_directory": '"/var/lib/btblocker"',
}
# For instance, where the default is nothing that could be written down.
_EXAMPLES: Final = {
    "allow": '["10.8.0.17", "10.8.1.0/24"]',
    "detection_log": '"/var/log/btblocker/detections.log"',
    "event_log": '["/var/log/btblocker/events.jsonl"]',
    "interface": '["eth0", "wg0"]',
    "metrics_listen": '"127.0.0.1:9810"',
}


def parsers() -> dict[str, argparse.ArgumentParser]:
    """The commands that are installed, by name."""
    return {
        "btblocker": engine.cli.command_line(),
        SIGTEST: engine.sigtest.command.command_line(SIGTEST),
    }


def manual_page(parser: argparse.ArgumentParser, section: int) -> str:
    """The page in roff: what the parser says, and what packaging/man adds to it."""
    # On one line, which the reader's terminal breaks.
    unbroken = functools.partial(argparse.HelpFormatter, width=100_000)
    for each in (parser, *_commands(parser)):
        each.formatter_class = unbroken
    page = Manpage(parser, format="single-commands-section")
    page.section = section
    page.source = f"btblocker {version('btblocker')}"
    page.manual = "btblocker"
    page.description = str(parser.description).removesuffix(".")
    parser.description = None  # or it stood in DESCRIPTION a second time
    if parser.prog == "btblocker":
        page.add_section("ENVIRONMENT", ">", "\n".join(_environment()))
    page.parse_include(_PACKAGING / "man" / f"{parser.prog}.{section}")
    return str(page)


def _environment() -> Iterator[str]:
    yield "Of the settings, these can be given by the environment. Flags win over it, and it"
    yield "over the file."
    for variable, name in ENVIRONMENT.items():
        yield ".TP"
        yield rf"\fB{variable}\fR"
        yield str(Settings.model_fields[name].description).replace("-", r"\-")


def completion(parser: argparse.ArgumentParser, shell: str) -> str:
    """A script for `bash` or `zsh` that completes commands, options, and what they take."""
    for action in itertools.chain(*(each._actions for each in (parser, *_commands(parser)))):
        shown = action.metavar if isinstance(action.metavar, str) else "".join(action.metavar or "")
        if shown.startswith(_FILES):
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif shown in _FOLDERS:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
        elif action.choices is None and "|" in shown:
            action.choices = shown.split("|")
    return str(shtab.complete(parser, shell=shell))


def _commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.values()


def settings_file() -> str:
    """The configuration file of an installation, in TOML."""
    lines = [
        "# Settings of btblocker: see btblocker(8). After a change `systemctl reload btblocker`",
        "# takes bans, allowed networks and the profile in force; all else takes a restart.",
        "# What is commented out is the default, or an example where it says so.",
    ]
    for name, field in Settings.model_fields.items():
        lines += ["", f"# {field.description}"]
        if name in _SET:
            lines.append(f"{name} = {_SET[name]}")
        elif name in _EXAMPLES:
            lines.append(f"#{name} = {_EXAMPLES[name]}  # an example")
        else:
            default = field.default
            assert default is not PydanticUndefined and default is not None, name
            lines.append(f"#{name} = {_toml(default)}")
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return str(value) if isinstance(value, int) else f'"{value}"'


def write(folder: Path) -> None:
    """Write everything under a folder, which need not exist."""
    for name in ("man", "bash", "zsh"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name, section in (("btblocker", 8), (SIGTEST, 1)):
        page = manual_page(parsers()[name], section)
        (folder / "man" / f"{name}.{section}").write_text(page, "utf-8")
        for shell, file in (("bash", name), ("zsh", f"_{name}")):
            (folder / shell / file).write_text(completion(parsers()[name], shell), "utf-8")
    (folder / "btblocker.toml").write_text(settings_file(), "utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
