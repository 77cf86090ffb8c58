"""Whether we may do what a blocker does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from engine.config import Settings
from engine.doctor.finding import Finding, ok, problem

# include/uapi/linux/capability.h
_NET_ADMIN, _SYS_ADMIN, _BPF = 12, 21, 39


def privileges(_: Settings) -> Iterator[Finding]:
    """Root, or the capabilities that NFQUEUE, iptables and XDP ask for (capabilities(7))."""
    (line,) = (
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("CapEff:")
    )
    held = int(line.split()[1], 16)
    lacking = []
    if not held >> _NET_ADMIN & 1:
        lacking.append("CAP_NET_ADMIN")
    if not (held >> _BPF & 1 or held >> _SYS_ADMIN & 1):
        lacking.append("CAP_BPF")
    if lacking:
        yield problem(
            f"user {os.geteuid()} lacks {' and '.join(lacking)}",
            "run this, and btblocker, as root: sudo btblocker doctor",
        )
    else:
        yield ok(f"user {os.geteuid()} has CAP_NET_ADMIN and CAP_BPF")
