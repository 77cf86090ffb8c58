"""Writes the generated parts of docs from the registries the engine uses.

Run as `python -m tools.reference`; with `--check` it changes nothing and exits with 1 if a
part is out of date.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.fields import VOCABULARY
from engine.language.diagnostics import CODES
from engine.service.event import event_schema, event_schema_text
from engine.service.metrics import LATENCY_MEANING, LATENCY_NAME, METRICS

_DOCS = Path(__file__).resolve().parent.parent / "docs"
DOCUMENTS = tuple(_DOCS / name for name in ("events.md", "language.md", "monitoring.md"))
EVENT_SCHEMA = _DOCS / "events.schema.json"

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


def _events() -> Iterator[str]:
    definitions = event_schema()["$defs"]
    for reference in event_schema()["discriminator"]["mapping"].values():
        event = definitions[reference.rpartition("/")[2]]
        yield f"### {event['properties']['event']['const']}"
        yield ""
        yield event["description"]
        yield ""
        yield "| key | type | meaning |"
        yield "| --- | --- | --- |"
        for key, value in event["properties"].items():
            if key not in _COMMON:
                yield f"| `{key}` | {_json_type(value)} | {value.get('description', '')} |"
        yield ""


_COMMON = ("schema", "time", "event")


def _json_type(value: dict[str, Any]) -> str:
    if "$ref" in value:
        return "object"
    if "enum" in value:
        return ", ".join(f"`{each}`" for each in value["enum"])
    if "anyOf" in value:
        return " or ".join(_json_type(each) for each in value["anyOf"])
    if value["type"] == "array":
        return f"list of {_json_type(value['items'])}s"
    return str(value["type"])


def _metrics() -> Iterator[str]:
    yield "| metric | type | labels | meaning |"
    yield "| --- | --- | --- | --- |"
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        yield f"| `{metric.shown_name}` | {metric.kind} | {labels} | {metric.meaning} |"
    yield f"| `{LATENCY_NAME}` | histogram | | {LATENCY_MEANING} |"


_PARTS = {"fields": _fields, "codes": _codes, "events": _events, "metrics": _metrics}


def rendered(text: str) -> str:
    """A document with its generated parts as they should be."""

    def fill(part: re.Match[str]) -> str:
        return part[1] + "\n".join(_PARTS[part[2]]()) + "\n" + part[3]

    return _PART.sub(fill, text)


def main() -> int:
    """Write the documents, or check them; returns the exit code."""
    wanted = {path: rendered(path.read_text("utf-8")) for path in DOCUMENTS}
    wanted[EVENT_SCHEMA] = event_schema_text()
    if "--check" in sys.argv[1:]:
        return int(any(path.read_text("utf-8") != text for path, text in wanted.items()))
    for path, text in wanted.items():
        path.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
