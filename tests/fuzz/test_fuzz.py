"""Each fuzz target with what it begins with, and for a moment with atheris."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.seeds import CORPUS, seeds
from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).resolve().parents[2]
# Of each target, those of its seeds among them.
RUNS = 600


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_that_was_found_breaks_again(target: str) -> None:
    for data in seeds(target):
        TARGETS[target](data)


def test_what_was_found_belongs_to_a_target() -> None:
    assert {path.name for path in CORPUS.iterdir()} <= set(TARGETS)


def test_a_moment_of_fuzzing_finds_nothing(tmp_path: Path) -> None:
    pytest.importorskip("atheris")
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "all", f"-runs={RUNS}", "-verbosity=0", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    assert {path.name for path in tmp_path.iterdir()} == set(TARGETS)
