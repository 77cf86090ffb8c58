"""What the kernel can do, by having it done where it changes nothing."""

from __future__ import annotations

import platform
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from engine.config import Settings
from engine.doctor.finding import Finding, ok, problem, warning
from engine.enforce.program import build_program
from engine.enforce.redirect import redirect_for

# BPF links on XDP came with 5.9, the coarse clock in BPF programs with 5.11.
_OLDEST = (5, 11)
_CONNTRACK = Path("/proc/sys/net/netfilter")
_JIT = Path("/proc/sys/net/core/bpf_jit_enable")
_NEARLY_FULL = 0.8


def kernel(settings: Settings) -> Iterator[Finding]:
    """Its version, and limits that concern us."""
    release = platform.release()
    version = tuple(map(int, re.findall(r"\d+", release)[:2]))
    if settings.xdp_mode != "off" and version < _OLDEST:
        yield problem(
            f"Linux {release}: XDP needs {'.'.join(map(str, _OLDEST))} or later",
            "use a newer kernel, or --xdp-mode off: NFQUEUE alone works",
        )
    else:
        yield ok(f"Linux {release}")
    if _JIT.exists() and _JIT.read_text().strip() == "0":  # elsewhere it is always on
        yield warning(
            "the BPF JIT is off: XDP is many times slower", "sysctl -w net.core.bpf_jit_enable=1"
        )
    if (_CONNTRACK / "nf_conntrack_max").exists():
        count, most = (
            int((_CONNTRACK / f"nf_conntrack_{name}").read_text()) for name in ("count", "max")
        )
        if count > most * _NEARLY_FULL:
            yield warning(
                f"connection tracking is nearly full: {count} of {most}",
                f"sysctl -w net.netfilter.nf_conntrack_max={most * 4}",
            )
        else:
            yield ok(f"connection tracking holds {count} of {most} connections")


def rules_possible(settings: Settings) -> Iterator[Finding]:
    """Whether iptables takes our rules, tried in a network namespace that ends with the trial."""
    done = subprocess.run(
        ["unshare", "--net", "sh", "-e"],
        input="\n".join(redirect_for(settings).rules()),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        yield ok("the kernel takes our iptables rules: NFQUEUE, conntrack, addrtype")
        return
    reason = " ".join(done.stderr.split())
    yield problem(
        f"the kernel does not take our iptables rules: {reason}",
        "load what is missing (modprobe xt_NFQUEUE nfnetlink_queue nf_conntrack xt_addrtype"
        " xt_connmark xt_CONNMARK xt_bpf nf_conntrack_netlink), or use a kernel that has it; as"
        " root",
    )


def xdp_possible(settings: Settings) -> Iterator[Finding]:
    """Whether the XDP program compiles, and the kernel's verifier takes it.

    Raises UnavailableError, which says what is missing.
    """
    if settings.xdp_mode == "off" or settings.monitor_only:
        yield ok("XDP is off in the settings")
        return
    build_program()
    yield ok("the XDP program compiles, and this kernel takes it")
