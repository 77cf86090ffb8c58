"""The JSON Schema that editors use is current, and means what the loader means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pydantic
import pytest
import yaml

from engine.language.form import SignatureForm
from engine.language.schema import signature_schema, signature_schema_text

ROOT = Path(__file__).resolve().parents[2]
VALIDATOR = jsonschema.Draft202012Validator(signature_schema())

MINIMAL: dict[str, Any] = {
    "id": "a.b",
    "title": "A",
    "scope": {"transport": "udp"},
    "when": "$a",
    "then": {"action": "log"},
    "tests": [{"expect": "match", "payload": ""}],
}


def test_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(signature_schema())


def test_file_is_current() -> None:
    path = ROOT / "docs" / "signature.schema.json"
    assert path.read_text("utf-8") == signature_schema_text(), (
        "run `btblocker check --schema > docs/signature.schema.json`"
    )


@pytest.mark.parametrize(
    "path",
    [p for p in sorted((ROOT / "signatures").rglob("*.yaml")) if p.name != "vars.yaml"],
    ids=lambda path: path.name,
)
def test_every_signature_is_accepted(path: Path) -> None:
    for document in yaml.safe_load_all(path.read_text("utf-8")):
        assert [error.message for error in VALIDATOR.iter_errors(document)] == []


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"id": "Nodots"},
        {"rev": 0},
        {"rev": "1"},
        {"title": ""},
        {"status": "new"},
        {"refs": "BEP-3"},
        {"scope": {"transport": "sctp"}},
        {"scope": {}},
        {"scope": {"transport": "tcp", "inspect": "stream"}},
        {"prefilter": "none"},
        {"prefilter": "all"},
        {"then": {"action": "block", "threshold": {"count": 2, "per": "src", "within": "10s"}}},
        {"then": {"action": "block", "threshold": {"count": 1, "per": "src", "within": "10s"}}},
        {"then": {"action": "block", "threshold": {"count": 2, "per": "src", "within": "10"}}},
        {"then": {"action": "block", "threshold": {"count": 2, "per": "src", "within": 10}}},
        {"then": {"action": "ban"}},
        {"tests": [{"expect": "maybe", "payload": ""}]},
        {"tests": [{"expect": "match"}]},
        {"unknown": 1},
    ],
    ids=str,
)
def test_schema_and_loader_agree(change: dict[str, Any]) -> None:
    document = MINIMAL | change
    try:
        SignatureForm.model_validate(document)
        accepted = True
    except pydantic.ValidationError:
        accepted = False
    assert VALIDATOR.is_valid(document) is accepted
