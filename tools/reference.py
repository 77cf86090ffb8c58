"""Writes the generated parts of docs/language.md from the registries the engine uses.

Run as `python -m tools.reference`; with `--check` it changes nothing and exits with 1 if a
part is out of date.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from engine.fields import VOCABULARY
from engine.language.diagnostics import CODES

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "language.md"

_PART = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def _fields() -> Iterator[str]:
    yield "| name | type | where | meaning |"
    yield "| --- | --- | --- | --- |"
    for field in VOCABULARY.values():
        where = "" if len(field.transports) > 1 else next(iter(field.transports))
        if "flow" in field.inspects:
            where = "flows" if len(field.inspects) == 1 else "everywhere"
        yield f"| `{field.signature}` | {field.type} | {where} | {field.doc} |"


def _codes() -> Iterator[str]:
    yield "| code | what it is about |"
    yield "| --- | --- |"
    for code, meaning in CODES.items():
        yield f"| {code} | {meaning} |"


_PARTS = {"fields": _fields, "codes": _codes}


def rendered(text: str) -> str:
    """A document with its generated parts as they should be."""

    def fill(part: re.Match[str]) -> str:
        return part[1] + "\n".join(_PARTS[part[2]]()) + "\n" + part[3]

    return _PART.sub(fill, text)


def main() -> int:
    """Write the document, or check it; returns the exit code."""
    text = DOCUMENT.read_text("utf-8")
    if "--check" in sys.argv[1:]:
        return int(rendered(text) != text)
    DOCUMENT.write_text(rendered(text), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
