"""The command `doctor`: what a look at the machine finds, line by line."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.text import Text

from engine.console.settings import RULE_SETTINGS, add_settings, settings_of
from engine.doctor.examination import examine
from engine.doctor.finding import Finding, Level

_SETTINGS = (*RULE_SETTINGS, "interface", "xdp_mode", "keep_xdp", "signatures", "state_directory")

_STYLES: dict[Level, str] = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def add_doctor_command(commands: Any) -> None:
    """Add it to the command line."""
    text = "look whether this machine can block, and say how to mend what is not well"
    doctor = commands.add_parser(
        "doctor",
        help=text,
        description=f"{text.capitalize()}. Give it the settings of `run`. It changes nothing. "
        "Exit code: 1 if there is a problem; warnings are none.",
    )
    add_settings(doctor, _SETTINGS)
    doctor.add_argument("--json", action="store_true", help="answer in JSON")
    doctor.set_defaults(command=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    settings = settings_of(options)
    # No colours where this is not a terminal.
    out = Console(highlight=False, soft_wrap=True)
    found: list[tuple[str, Finding]] = []
    for topic, finding in examine(settings):
        found.append((topic, finding))
        if not options.json:
            out.print(_line(topic, finding))
    problems, warnings = (
        sum(finding.level == level for _, finding in found) for level in ("problem", "warning")
    )
    if options.json:
        findings = [{"topic": topic, **asdict(finding)} for topic, finding in found]
        print(json.dumps({"problems": problems, "warnings": warnings, "findings": findings}))
    else:
        out.print(f"{problems} problems, {warnings} warnings")
    return int(problems > 0)


def _line(topic: str, finding: Finding) -> Text:
    line = Text.assemble((f"{finding.level:<8}", _STYLES[finding.level]), f"{topic:<11}")
    line.append(finding.message)
    if finding.remedy:
        line.append(f"\n{'':19}-> {finding.remedy}")
    return line
