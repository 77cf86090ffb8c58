"""The documents: their examples work, and what is generated is up to date."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from engine.config import load_settings
from engine.selftest import self_test
from engine.signatures import load
from tools.reference import DOCUMENTS, rendered

ROOT = Path(__file__).resolve().parent.parent


def _signatures() -> list[tuple[str, str]]:
    """Every YAML block that is a signature, in every document."""
    found = []
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        blocks = re.findall(r"```yaml\n(.*?)```", path.read_text("utf-8"), re.DOTALL)
        found += [(f"{path.name}-{n}", block) for n, block in enumerate(blocks) if "id:" in block]
    return found


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in _signatures()])
def test_example_signatures_compile_and_pass_their_tests(text: str, tmp_path: Path) -> None:
    (tmp_path / "example.yaml").write_text(text)
    ruleset = load(tmp_path)
    assert not self_test(ruleset)
    assert ruleset.warnings == ()


@pytest.mark.parametrize(
    "path", sorted((ROOT / "signatures/examples").glob("*.yaml")), ids=lambda path: path.stem
)
def test_the_cookbook_shows_the_examples_as_they_are(path: Path) -> None:
    assert f"```yaml\n{path.read_text('utf-8')}```" in (ROOT / "docs/cookbook.md").read_text(
        "utf-8"
    )


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_generated_parts_are_up_to_date(path: Path) -> None:
    text = path.read_text("utf-8")
    assert rendered(text) == text, "run `python -m tools.reference`"


def test_every_signature_is_in_the_list_of_what_is_recognised() -> None:
    shipped = load(ROOT / "signatures", profile="strict").signatures
    text = (ROOT / "docs/detection.md").read_text("utf-8")
    assert [s.id for s in shipped if f"`{s.id.removeprefix('bittorrent.')}`" not in text] == []


def test_links_lead_somewhere() -> None:
    for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text("utf-8")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


# Each claim of these has a test, named as `tests/FILE.py::test_name`.
WITH_TESTS = ("reliability.md",)


def missing_tests(document: Path) -> list[str]:
    """The tests that a document names and that are not there."""
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", document.read_text("utf-8"))
    assert named, f"{document.name} names no test"
    return [
        f"{file}::{test}"
        for file, test in named
        if not (ROOT / file).exists() or f"def {test}(" not in (ROOT / file).read_text("utf-8")
    ]


@pytest.mark.parametrize("name", WITH_TESTS)
def test_the_tests_that_documents_name_are_there(name: str) -> None:
    assert missing_tests(ROOT / "docs" / name) == []


def _said_by_the_engine() -> str:
    """Its source, with texts that go over several lines put together."""
    source = "\n".join(path.read_text("utf-8") for path in sorted((ROOT / "engine").rglob("*.py")))
    return re.sub(r'"\s*\n\s*f?"', "", source)


def _quoted_messages() -> list[str]:
    """First columns of the tables of messages in operations.md."""
    text = (ROOT / "docs/operations.md").read_text("utf-8")
    tables = re.findall(r"\| message \| .*\n\|[ -|]*\n((?:\|.*\n)+)", text)
    rows = [row for table in tables for row in table.splitlines()]
    return [message for row in rows for message in re.findall(r"`(.+?)`", row.split("|")[1])]


def test_messages_to_look_up_are_those_that_are_said() -> None:
    """As far as they are the same each time: numbers differ, and `...` stands for the rest."""
    said, messages = _said_by_the_engine(), _quoted_messages()
    assert len(messages) > 10
    parts = [
        (part.strip(), message) for message in messages for part in re.split(r"\.\.\.|\d+", message)
    ]
    assert [message for part, message in parts if part not in said] == []


def test_example_configurations_are_right(tmp_path: Path) -> None:
    text = (ROOT / "docs/operations.md").read_text("utf-8")
    blocks = re.findall(r"^ *```toml\n(.*?)```", text, re.DOTALL | re.MULTILINE)
    assert blocks
    for block in blocks:
        (tmp_path / "btblocker.toml").write_text(textwrap.dedent(block))
        load_settings(tmp_path / "btblocker.toml", {}, {})


def test_behind_each_claim_of_security_stands_a_test() -> None:
    text = (ROOT / "docs/security.md").read_text("utf-8")
    named = re.findall(r"`(tests/[\w/.]+)::(\w+)`", text)
    assert len(named) > 40
    assert text.count("`tests/") - text.count("`tests/fuzz/targets.py`") - text.count(
        "`tests/fuzz/corpus/"
    ) == len(named), "a name that is no test's"
    for path, name in named:
        place = ROOT / path
        assert place.exists(), path
        assert re.search(rf"^def {name}\(", place.read_text("utf-8"), re.MULTILINE), name
