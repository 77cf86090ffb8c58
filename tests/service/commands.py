"""btblocker commands on the router, to their end."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from tools.lab.topology import Topology

COMMAND = [sys.executable, "-m", "engine.cli"]


def btblocker(
    topology: Topology, *arguments: str, prefix: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run a command, whatever its exit code."""
    return topology.router.run([*prefix, *COMMAND, *arguments], check=False, timeout_s=20)


def answer(topology: Topology, *arguments: str) -> Any:
    """What a command answers in JSON."""
    return json.loads(btblocker(topology, *arguments, "--json").stdout)
