"""Datagrams in the names of many, from a line's client."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from engine.errors import UnavailableError
from tools.lab.program import Program
from tools.lab.topology import HOST_INTERFACE, Line

_SOURCE = Path(__file__).with_name("forge.c")
# A million addresses and more that nobody else in the lab has.
FIRST_SOURCE = "100.64.0.0"


def start_forging(
    line: Line,
    payload: bytes,
    *,
    first: str = FIRST_SOURCE,
    sources: int,
    count: int,
    per_second: int,
    name: str = "forge",
) -> Program:
    """Send `count` datagrams to the line's server from `sources` addresses; see forge.c.

    Raises UnavailableError where there is no C compiler.
    """
    link = line.router.run(["ip", "-json", "link", "show", "dev", line.lan_interface]).stdout
    return line.spawn(
        line.client,
        [
            *(_built(line.topology.folder), HOST_INTERFACE, json.loads(link)[0]["address"]),
            *(first, str(sources), line.server_address(4)),
            *(str(count), str(per_second), payload.hex()),
        ],
        name=name,
    )


def _built(folder: Path) -> str:
    program = folder / "forge"
    if not program.exists():
        if shutil.which("gcc") is None:
            raise UnavailableError("lab: needs gcc: run `make setup`")
        subprocess.run(["gcc", "-O2", "-o", program, _SOURCE], check=True)
    return str(program)
