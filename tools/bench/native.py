"""The C half of the benchmark, built for each run."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from engine.errors import UnavailableError

_SOURCES = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Programs:
    """Paths of the built programs."""

    accept_loop: str
    udp_blast: str
    udp_echo: str


def build(folder: Path) -> Programs:
    """Compile into `folder`; raises UnavailableError when that fails."""
    return Programs(
        accept_loop=_compile("accept_loop", folder, "-lnetfilter_queue"),
        udp_blast=_compile("udp_blast", folder),
        udp_echo=_compile("udp_echo", folder),
    )


def _compile(name: str, folder: Path, *libraries: str) -> str:
    if shutil.which("gcc") is None:
        raise UnavailableError("bench: needs gcc: run `make setup`")
    target = str(folder / name)
    done = subprocess.run(
        ["gcc", "-O2", "-o", target, str(_SOURCES / f"{name}.c"), *libraries],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = next((line for line in done.stderr.splitlines() if "error" in line), "")
        raise UnavailableError(f"bench: cannot build {name}.c: {reason}")
    return target
