"""Signature files that are loaded from a folder of their own."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from engine.compiler.ruleset import RuleSet
from engine.language.diagnostics import SignatureError
from engine.paths import shipped_signatures
from engine.signatures import load

SHIPPED = [path.read_bytes() for path in sorted(shipped_signatures().rglob("*.yaml"))]
ONE = (Path(__file__).parent / "language/golden/pattern-unused.yaml").read_text()


@contextlib.contextmanager
def folder(*files: bytes) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        for number, data in enumerate(files):
            (Path(name) / f"{number}.yaml").write_bytes(data)
        yield Path(name)


def loaded(*files: bytes) -> RuleSet | str:
    """The RuleSet of some files, or what is wrong with them, in full."""
    with folder(*files) as path:
        try:
            return load(path)
        except SignatureError as error:
            assert error.diagnostics
            return str(error)
