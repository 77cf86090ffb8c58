"""What a look at the machine finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact about the machine, and how to mend it where it is not well."""

    level: Level
    message: str
    remedy: str = ""


def ok(message: str) -> Finding:
    """As it should be."""
    return Finding("ok", message)


def warning(message: str, remedy: str = "") -> Finding:
    """The blocker works, but maybe not as somebody expects."""
    return Finding("warning", message, remedy)


def problem(message: str, remedy: str = "") -> Finding:
    """Something that was asked for does not work."""
    return Finding("problem", message, remedy)
