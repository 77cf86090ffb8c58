"""The documents: their examples work, and what is generated is up to date."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

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
