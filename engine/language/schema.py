"""The JSON Schema of a signature file's documents, for editors that know YAML."""

from __future__ import annotations

import json
from typing import Any

from engine.language.form import SignatureForm


def signature_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of one YAML document, from the form that the loader uses."""
    schema = SignatureForm.model_json_schema()
    drop_titles(schema)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "btblocker signature",
        **schema,
    }


def signature_schema_text() -> str:
    """The same as it stands in a file."""
    return json.dumps(signature_schema(), indent=2) + "\n"


def drop_titles(schema: Any) -> None:
    """Take away pydantic's titles, which only say the keys again."""
    if isinstance(schema, dict):
        if isinstance(schema.get("title"), str):
            del schema["title"]
        for inner in schema.values():
            drop_titles(inner)
    elif isinstance(schema, list):
        for inner in schema:
            drop_titles(inner)
