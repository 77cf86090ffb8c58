"""The C half of the benchmark, built for each run."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from engine.errors import UnavailableError

_SOURCES = Path(__file__).parent
_LIBRARIES = {"accept_loop": ["-lnetfilter_queue"]}


def build(name: str, folder: Path) -> str:
    """Compile NAME.c into `folder`, unless it is there; returns the program's path.

    Raises UnavailableError when that fails.
    """
    target = folder / name
    if target.exists():
        return str(target)
    if shutil.which("gcc") is None:
        raise UnavailableError("needs gcc: run `make setup`")
    source = str(_SOURCES / f"{name}.c")
    done = subprocess.run(
        ["gcc", "-O2", "-o", str(target), source, *_LIBRARIES.get(name, ())],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = next((line for line in done.stderr.splitlines() if "error" in line), "")
        raise UnavailableError(f"cannot build {name}.c: {reason}")
    return str(target)
