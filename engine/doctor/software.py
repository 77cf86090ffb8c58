"""The programs and libraries that a blocker is made of."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path

from engine.config import Settings
from engine.doctor.finding import Finding, ok, problem
from engine.language.diagnostics import SignatureError
from engine.selftest import self_test
from engine.signatures import load


def versions(_: Settings) -> Iterator[Finding]:
    """What a report of a mistake should name."""
    parts = [f"Python {platform.python_version()}"]
    for name in ("btblocker", "hyperscan", "NetfilterQueue"):
        try:
            parts.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            yield problem(f"the Python package {name} is not installed", "make setup")
    yield ok(", ".join(parts))
    try:
        shown = subprocess.run(
            ["iptables", "--version"], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        yield problem("iptables does not work", "apt-get install iptables")
    else:
        yield ok(shown)


def signatures(settings: Settings) -> Iterator[Finding]:
    """Whether they compile here, and pass their tests: so Hyperscan runs on this processor."""
    if platform.machine() == "x86_64" and "sse4_2" not in Path("/proc/cpuinfo").read_text():
        yield problem(
            "this processor has no SSE 4.2, which Hyperscan needs",
            "use another machine, or let the virtual one pass its host's processor through",
        )
        return
    remedy = f"btblocker check {settings.signatures}"
    try:
        ruleset = load(settings.signatures, profile=settings.detection_profile)
        failures = self_test(ruleset)
    except SignatureError as error:
        yield problem(f"{len(error.diagnostics)} mistakes in {settings.signatures}", remedy)
        return
    if failures:
        yield problem(f"{len(failures)} tests of signatures fail", remedy)
    else:
        yield ok(f"{len(ruleset.signatures)} signatures of {settings.signatures} are in order")
