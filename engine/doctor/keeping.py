"""Where things are kept that outlive the process."""

from __future__ import annotations

import os
from collections.abc import Iterator

from engine.config import Settings
from engine.doctor.finding import Finding, ok, problem, warning
from engine.enforce.pins import why_not_kept


def keeping(settings: Settings) -> Iterator[Finding]:
    """The folder of the state, and the BPF file system."""
    folder = settings.state_directory
    if folder is None:
        yield warning(
            "bans and allowed networks end with the process", "--state-directory /var/lib/btblocker"
        )
    elif folder.exists() and not folder.is_dir():
        yield problem(f"{folder} is no folder", "name one with --state-directory")
    elif folder.exists() and not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        yield problem(f"{folder} cannot be written", "make it root's: chown root: and chmod 700")
    else:
        yield ok(f"bans are kept in {folder}")
    if settings.keep_xdp:
        reason = why_not_kept()
        yield problem(reason) if reason else ok("XDP can be kept through restarts")
