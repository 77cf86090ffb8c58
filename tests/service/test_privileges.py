"""What each process of a running blocker may still do, as proc(5) tells it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.paths import shipped_signatures
from engine.privileges import BPF, Capability
from engine.service.builder import Build
from tests.service.traffic import DHT_PING, Datagrams
from tools.lab.blocker import run_blocker
from tools.lab.program import wait_until
from tools.lab.topology import Topology

pytestmark = pytest.mark.lab

NOBODY = "65534"


def _facts(pid: int) -> dict[str, str]:
    """/proc/PID/status; empty when the process is gone."""
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return dict(line.split(":\t", 1) for line in lines)
    return {}


def _is_nobody(facts: dict[str, str], keeps: set[Capability], *, inherited: bool = False) -> bool:
    """Whether it has no user, no group and no capabilities but these."""
    bits = sum(1 << capability for capability in keeps)
    return (
        facts.get("Uid", "").split() == facts["Gid"].split() == [NOBODY] * 4
        and facts["Groups"].split() == []
        and int(facts["CapEff"], 16) == int(facts["CapPrm"], 16) == bits
        and int(facts["CapInh"], 16) == int(facts["CapAmb"], 16) == (bits if inherited else 0)
        and facts["NoNewPrivs"] == "1"
    )


def _children(pid: int) -> Iterator[int]:
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            yield from map(int, (task / "children").read_text().split())


def _command(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def test_what_reads_packets_or_answers_strangers_is_nobody(topology: Topology) -> None:
    options = ("--workers", "2", "--metrics-listen", "127.0.0.1:9810", "--xdp-mode", "off")
    with run_blocker(topology, *options) as blocker, Datagrams(topology) as datagrams:
        for _ in range(2):  # as they come, and with signatures that were loaded later
            workers = [worker["pid"] for worker in blocker.status()["workers"]]
            assert len(workers) == 2
            for pid in workers:
                assert _is_nobody(_facts(pid), {Capability.NET_ADMIN})
                for task in Path(f"/proc/{pid}/task").iterdir():
                    assert _is_nobody(_facts(int(task.name)), {Capability.NET_ADMIN})
            reloads = blocker.status()["signatures"]["reloads"]
            blocker.reload()
            wait_until(
                lambda before=reloads: blocker.status()["signatures"]["reloads"] > before,
                20,
                "reloaded",
            )
        pid = blocker.program.process.pid
        (server,) = [child for child in _children(pid) if b"metrics_server" in _command(child)]
        assert _is_nobody(_facts(server), set())
        assert datagrams.pass_through()
        assert not datagrams.pass_through(DHT_PING)
        # What is left to the daemon itself is root's.
        assert _facts(pid)["Uid"].split()[0] == "0"


def test_the_compilers_read_what_is_roots_alone_and_write_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "signatures"
    shutil.copytree(shipped_signatures(), folder)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)
    build = Build(folder, "balanced", for_driver=True)
    try:
        pid = build._process.pid
        reads = {Capability.DAC_READ_SEARCH}
        tries = reads | BPF | {Capability.NET_ADMIN}
        wait_until(
            lambda: _is_nobody(_facts(pid), tries, inherited=True), 20, "the builder is nobody"
        )

        def bcc_is_nobody() -> bool:
            return any(
                b"compilation" in _command(child) and _is_nobody(_facts(child), reads | BPF)
                for child in _children(pid)
            )

        wait_until(bcc_is_nobody, 20, "BCC is nobody")
        built = build.result()
        assert built.driver is not None
        assert built.driver.program is not None, built.driver.failure
        assert built.driver.warnings == ()
    finally:
        build.end()


def test_where_a_capability_is_missing_the_rest_is_given_up() -> None:
    """In a container that may not change users and has no CAP_BPF."""
    has = "cap_net_admin,cap_sys_admin,cap_dac_override"
    program = (
        "from engine.privileges import *; "
        "drop_privileges(BPF | {Capability.NET_ADMIN, Capability.DAC_READ_SEARCH}); "
        "print(open('/proc/self/status').read())"
    )
    sets = [f"--{name}=-all,+{has.replace(',', ',+')}" for name in ("bounding-set", "inh-caps")]
    done = subprocess.run(
        ["setpriv", *[s.replace("cap_", "") for s in sets], sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )
    facts = dict(line.split(":\t", 1) for line in done.stdout.splitlines() if ":\t" in line)
    bits = 1 << Capability.NET_ADMIN | 1 << Capability.SYS_ADMIN
    assert int(facts["CapEff"], 16) == int(facts["CapPrm"], 16) == bits
    assert facts["Uid"].split() == ["0"] * 4
    assert facts["NoNewPrivs"] == "1"
