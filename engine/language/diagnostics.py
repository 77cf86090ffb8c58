"""What the author of a signature is told: code, place, reason, remedy.

```
error[S012]: unknown field `utp.acknr`
  --> signatures/bittorrent/utp-syn.yaml:17:7
   |
17 |   and utp.acknr == 0
   |       ^^^^^^^^^ did you mean `utp.ack_nr`?
```
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from engine.errors import InputError

# Codes are stable: a code is never reused for another mistake.
CODES: dict[str, str] = {
    "S001": "the file is not YAML",
    "S002": "YAML features that signatures do not use: aliases, anchors, tags",
    "S003": "a key stands twice",
    "S004": "unknown key",
    "S005": "missing key",
    "S006": "a value of the wrong kind",
    "S007": "patterns and conditions must be literal blocks (`|`)",
    "S008": "two signatures share an id",
    "S009": "the file or folder cannot be read",
    "S010": "syntax error",
    "S011": "unknown pattern",
    "S012": "unknown field or function",
    "S013": "types do not fit",
    "S014": "wrong number of arguments",
    "S015": "a constant is needed here",
    "S016": "a number out of range",
    "S017": "unknown escape in a text",
    "S018": "a pattern is defined twice",
    "S019": "the pattern cannot be compiled",
    "S020": "nothing in the bytes can trigger the signature",
    "S021": "a test of the signature fails",
    "S022": "a signature needs a test that matches and a look-alike that does not",
    "S023": "too long or too deeply nested",
    "S024": "unknown list",
    "S025": "an entry of a list does not fit what the list is asked for",
    "S026": "the name of a variable is taken",
    "S027": "what always has a value is asked whether it has one",
    "S030": "a tag that no signature sets",
    "S101": "a pattern is never used",
    "S102": "a weak trigger: Python runs for many innocent packets",
    "S103": "a variable or a list is never used",
    "S104": "a warning is allowed that is not given",
    "S105": "the kernel does not take the signature into the driver",
}

_SHOWN_COLUMNS = 100


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a source file; lines and columns count from 1, the end is exclusive."""

    line: int
    column: int
    end_line: int
    end_column: int


@dataclass(frozen=True, slots=True)
class Source:
    """A signature file: the path as the user gave it, and its text."""

    path: Path
    text: str = field(repr=False)

    def line(self, number: int) -> str:
        """Line `number` (from 1), empty past the end."""
        return self.lines[number - 1] if number <= len(self.lines) else ""

    @property
    def lines(self) -> list[str]:
        """The lines as YAML counts them (1.1, section 5.4)."""
        return _lines(self.text)


def _visible(line: str) -> str:
    """What a terminal would act on or not show, as a sign of the same width."""
    return "".join(c if c.isprintable() or c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in line)


@functools.lru_cache(maxsize=4)
def _lines(text: str) -> list[str]:
    return re.split("\r\n|[\n\r\x85\u2028\u2029]", text)


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One mistake or warning, with the place it was seen at."""

    code: str
    message: str
    source: Source
    span: Span
    hint: str = ""

    @property
    def severity(self) -> Literal["error", "warning"]:
        """Codes from S100 on are warnings: they say what costs, and stop nothing."""
        return "warning" if self.code >= "S100" else "error"

    def __str__(self) -> str:
        if not self.source.text:  # the file or folder itself is the trouble
            return f"{self.severity}[{self.code}]: {self.message}"
        number = str(self.span.line)
        margin = " " * len(number)
        full_line = self.source.line(self.span.line)
        # A very long line is shown from shortly before the mistake.
        cut = max(0, self.span.column - _SHOWN_COLUMNS // 2) if len(full_line) > 100 else 0
        line = _visible(full_line[cut : cut + _SHOWN_COLUMNS])
        one_line = self.span.end_line == self.span.line
        stop = self.span.end_column - cut if one_line else len(line) + 1
        start = self.span.column - cut
        carets = "^" * max(1, min(stop, len(line) + 1) - start)
        # Tabs keep their width under the caret line.
        indent = "".join("\t" if c == "\t" else " " for c in line[: start - 1])
        return "\n".join(
            [
                f"{self.severity}[{self.code}]: {self.message}",
                f"{margin}--> {self.source.path}:{self.span.line}:{self.span.column}",
                f"{margin} |",
                f"{number} | {line}",
                f"{margin} | {indent}{carets} {self.hint}".rstrip(),
            ]
        )

    def as_json(self) -> dict[str, object]:
        """The same for editors and scripts."""
        return {
            "code": self.code,
            "severity": self.severity,
            "message": self.message,
            "hint": self.hint,
            "file": str(self.source.path),
            "line": self.span.line,
            "column": self.span.column,
            "end_line": self.span.end_line,
            "end_column": self.span.end_column,
        }


@dataclass(frozen=True, slots=True)
class Fragment:
    """A text inside a source file; `line` and `column` say where its first character stands.

    In a literal block every line is indented by the same `column`; elsewhere the text is a
    single line.
    """

    source: Source
    text: str
    line: int
    column: int

    def span(self, line: int, column: int, end_line: int, end_column: int) -> Span:
        """The place in the file of a stretch counted from 1 inside this text."""
        return Span(
            line + self.line - 1,
            column + self.column - 1,
            end_line + self.line - 1,
            end_column + self.column - 1,
        )

    def whole(self) -> Span:
        """The first line of the text, for what concerns all of it."""
        first = self.text.split("\n", 1)[0]
        return self.span(1, 1, 1, max(2, len(first) + 1))


class MistakeError(Exception):
    """The first mistake in one fragment, as a diagnostic."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__(diagnostic.message)
        self.diagnostic = diagnostic


class SignatureError(InputError):
    """Signature files with errors in them; carries every diagnostic, warnings too."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__("\n\n".join(map(str, self.diagnostics)))


def has_errors(diagnostics: Iterable[Diagnostic]) -> bool:
    """Whether any of them is more than a warning."""
    return any(d.severity == "error" for d in diagnostics)


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint that names the closest known name, or lists them when none is close."""
    names = sorted(known)
    if close := difflib.get_close_matches(name, names, n=1, cutoff=0.5):
        return f"did you mean `{close[0]}`?"
    return "known: " + ", ".join(f"`{n}`" for n in names) if 0 < len(names) <= 12 else ""
