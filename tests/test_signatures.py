from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.certainty import DetectionProfile
from engine.compiler.ruleset import RuleSet
from engine.language.diagnostics import SignatureError
from engine.paths import shipped_signatures
from engine.selftest import self_test
from engine.signatures import load
from tests.loading import ONE, SHIPPED, folder, loaded


def test_what_is_shipped_is_right() -> None:
    ruleset = load(shipped_signatures())
    assert self_test(ruleset) == []
    assert ruleset.warnings == ()
    assert len(ruleset.signatures) + len(ruleset.disabled) >= len(SHIPPED)


def test_examples_are_switched_off() -> None:
    ruleset = load(shipped_signatures(), profile="strict")
    examples = load(shipped_signatures() / "examples")
    assert not examples.signatures
    assert {s.id for s in examples.disabled} == {s.id for s in ruleset.disabled}
    assert len({s.id.split(".")[1] for s in examples.disabled}) >= 4


def test_a_single_file_is_loaded_alone() -> None:
    text = SHIPPED[0]
    with folder(text, text, b"id: [") as path:
        alone = load(path / "0.yaml")
        assert {signature.source.path for signature in alone.signatures} == {path / "0.yaml"}
        with pytest.raises(SignatureError):  # the others are broken, and share its ids
            load(path)


LEANING = """\
id: test.leaning
title: Leans on what stands elsewhere
scope: {transport: udp}
patterns: |
  $hello = "hello"
when: |
  $hello at 0 and not src.port in ports and (http.host in @hosts or size == 5)
  and src.tagged("set-elsewhere")
then: {action: log}
tests:
  - {expect: match, payload: '"hello"', tagged: {src: [set-elsewhere]}}
  - {expect: no match, payload: '"hullo"'}
"""


@pytest.mark.parametrize("name", ["a.yaml", "sub/a.yaml"])
def test_a_single_file_has_the_variables_and_lists_of_its_folder(name: str) -> None:
    with folder() as path:
        (path / "sub").mkdir()
        (path / "lists").mkdir()
        (path / "vars.yaml").write_text("ports: [1, 2]\nunused: 3\n")
        (path / "lists" / "hosts.txt").write_text("a.example\n")
        (path / "lists" / "unused.txt").write_text("b.example\n")
        (path / name).write_text(LEANING)
        ruleset = load(path / name)
        assert [signature.id for signature in ruleset.signatures] == ["test.leaning"]
        assert ruleset.warnings == ()  # other files may use the rest, and set the tag
        with pytest.raises(SignatureError, match="no signature sets the tag `set-elsewhere`"):
            load(path)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("0.yaml", "no signature in `.*0.yaml`: it is empty"),
        ("", "no signature in `.*`: every file is empty"),
        ("9.yaml", "there is no signature file or folder `.*9.yaml`"),
    ],
)
def test_nothing_to_load(name: str, said: str) -> None:
    with folder(b"") as path, pytest.raises(SignatureError, match=said):
        load(path / name)


# --- folders


def test_all_mistakes_of_all_files_are_told_at_once() -> None:
    broken = ONE.replace("$a at 0", "$c at 0").encode()
    result = loaded(b"id: [", b"\xff", broken, b"x: 1")
    assert isinstance(result, str)
    assert [result.count(f"error[{code}]") for code in ("S001", "S009", "S011", "S004")] == [1] * 4


def test_an_id_is_taken_across_files() -> None:
    result = loaded(ONE.encode(), ONE.replace("An example", "Another").encode())
    assert isinstance(result, str)
    assert "the id `example.protocol` is taken" in result
    assert "0.yaml:1" in result


def test_files_below_are_found_and_others_are_not(tmp_path: Path) -> None:
    (tmp_path / "deep/er").mkdir(parents=True)
    (tmp_path / "deep/er/a.yaml").write_text(ONE)
    (tmp_path / "notes.txt").write_text("{")
    (tmp_path / "folder.yaml").mkdir()
    os.mkfifo(tmp_path / "pipe.yaml")
    assert [s.id for s in load(tmp_path).signatures] == ["example.protocol"]


# --- switched off

OFF = ONE.replace("then:", "enabled: false\nthen:")


def test_a_disabled_signature_is_loaded_and_does_not_judge() -> None:
    result = loaded(OFF.encode())
    assert isinstance(result, RuleSet)
    assert (result.signatures, [s.id for s in result.disabled]) == ((), ["example.protocol"])
    assert not (result.udp.rules or result.tcp_stream.rules or result.tcp_packet.rules)


def test_enable_all_switches_it_on() -> None:
    with folder(OFF.encode()) as path:
        result = load(path, enable_all=True)
    assert ([s.id for s in result.signatures], result.disabled) == (["example.protocol"], ())


def test_a_disabled_signature_is_checked_and_takes_its_id() -> None:
    result = loaded(ONE.encode(), OFF.encode(), OFF.replace("$a at 0", "$c at 0").encode())
    assert isinstance(result, str)
    assert result.count("error[S008]") == 2
    assert result.count("error[S011]") == 1


def test_the_tests_of_a_disabled_signature_run() -> None:
    swapped = OFF.replace("expect: match", "expect: x").replace("expect: no match", "expect: match")
    result = loaded(swapped.replace("expect: x", "expect: no match").encode())
    assert isinstance(result, RuleSet)
    assert [failure.code for failure in self_test(result)] == ["S021", "S021"]


@pytest.mark.parametrize(
    ("certainty", "profile", "judges"),
    [
        ("certain", "plain", True),
        ("likely", "plain", False),
        ("guess", "plain", False),
        ("certain", "balanced", True),
        ("likely", "balanced", True),
        ("guess", "balanced", False),
        ("certain", "strict", True),
        ("likely", "strict", True),
        ("guess", "strict", True),
    ],
)
def test_a_profile_leaves_out_what_is_not_sure_enough(
    certainty: str, profile: DetectionProfile, judges: bool
) -> None:
    text = ONE.replace("then:", f"certainty: {certainty}\nthen:")
    with folder(text.encode()) as path:
        result = load(path, profile=profile)
    assert bool(result.signatures) is bool(result.tcp_stream.rules or result.udp.rules) is judges
    assert bool(result.disabled) is not judges
    assert self_test(result) == []


def test_the_profile_by_default_is_balanced() -> None:
    texts = (
        ONE.replace("then:", f"certainty: {c}\nthen:").replace("e.protocol", f"e.{c}")
        for c in ("certain", "likely", "guess")
    )
    with folder(*(text.encode() for text in texts)) as path:
        ids = {signature.id for signature in load(path).signatures}
    assert ids == {"example.certain", "example.likely"}


@pytest.mark.parametrize("name", ["missing", "file", "empty"])
def test_no_folder_of_signatures(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SignatureError) as caught:
        load(tmp_path / name)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "S009"
    assert str(tmp_path / name) in str(diagnostic)
    assert "\n" not in str(diagnostic)
