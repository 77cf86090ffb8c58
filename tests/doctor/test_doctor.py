"""`btblocker doctor` on machines that are well, and on others."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.config import Settings
from engine.doctor.keeping import keeping
from engine.doctor.software import signatures
from tests.bpffs import bpf_file_system
from tests.service.chat import CHAT
from tests.service.commands import COMMAND
from tools.lab.blocker import run_blocker
from tools.lab.program import wait_until
from tools.lab.topology import LAN_INTERFACE, WAN_INTERFACE, Topology

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def topology() -> Iterator[Topology]:
    with Topology() as made:
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of signatures that compile quickly."""
    made = tmp_path / "signatures"
    made.mkdir()
    (made / "chat.yaml").write_text(CHAT)
    return made


def doctor(
    topology: Topology, *options: str, prefix: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run it on the router. It compiles the XDP program, which takes a busy machine a while."""
    command = [*prefix, *COMMAND, "doctor", *options]
    return topology.router.run(command, check=False, timeout_s=60)


class Report:
    """What `doctor --json` says on the router."""

    def __init__(self, topology: Topology, *options: str, prefix: tuple[str, ...] = ()) -> None:
        done = doctor(topology, "--json", *options, prefix=prefix)
        report = json.loads(done.stdout)
        self.exit_code = done.returncode
        self.findings: list[dict[str, Any]] = report["findings"]
        problems = [found for found in self.findings if found["level"] == "problem"]
        assert report["problems"] == len(problems)
        assert self.exit_code == bool(problems)

    def level(self, topic: str, words: str) -> str:
        """That of the one finding about a topic that has these words."""
        (level,) = (
            str(found["level"])
            for found in self.findings
            if found["topic"] == topic and words in found["message"]
        )
        return level

    def remedy(self, words: str) -> str:
        (remedy,) = (str(f["remedy"]) for f in self.findings if words in f["message"])
        return remedy


@pytest.mark.lab
def test_before_the_start_while_it_runs_and_after(
    topology: Topology, folder: Path, tmp_path: Path
) -> None:
    options = ("--interface", LAN_INTERFACE, "--chain", "FORWARD")
    before = Report(topology, *options, "--signatures", str(folder))
    assert before.exit_code == 0, before.findings
    assert before.level("privileges", "CAP_NET_ADMIN") == "ok"
    assert before.level("software", "1 signatures of") == "ok"
    assert before.level("kernel", "takes our iptables rules") == "ok"
    assert before.level("kernel", "the XDP program compiles") == "ok"
    assert before.level("interfaces", f"{LAN_INTERFACE}: native XDP is possible") == "ok"
    assert before.level("network", "forwards IPv4") == "ok"
    assert before.level("queue", "no btblocker runs") == "warning"
    assert before.level("queue", "the rules are not in place") == "warning"
    assert "--manage-rules" in before.remedy("the rules are not in place")
    assert before.level("state", "end with the process") == "warning"

    with bpf_file_system(tmp_path / "bpf") as bpffs:
        kept = ("--interface", LAN_INTERFACE, "--keep-xdp")
        with run_blocker(topology, "--keep-xdp", prefix=bpffs.prefix):
            _while_it_runs(topology, (*options, "--signatures", str(folder)))
        after = Report(topology, *kept, "--signatures", str(folder), prefix=bpffs.prefix)
        assert after.level("interfaces", f"XDP is kept on {LAN_INTERFACE} (native)") == "warning"
        assert after.remedy(f"kept on {LAN_INTERFACE}").endswith("btblocker detach")
        assert after.level("state", "XDP can be kept") == "ok"


def _while_it_runs(topology: Topology, options: tuple[str, ...]) -> None:
    shown = doctor(topology, *options)
    assert shown.returncode == 0, shown.stdout
    assert "\x1b" not in shown.stdout, "no colours where there is no terminal"
    for line in (
        "queue 0: btblocker listens",
        "the rules are in place",
        f"{LAN_INTERFACE}: our XDP program is on it",
    ):
        assert line in shown.stdout

    topology.router.run(["iptables", "-t", "mangle", "-D", "FORWARD", "-j", "BTBLOCKER-0"])
    partly = Report(topology, *options, "--xdp-mode", "off")
    assert partly.level("queue", "-A FORWARD -j BTBLOCKER-0") == "problem"
    assert "rules apply" in partly.remedy("of the rules some are missing")
    topology.router.run([*COMMAND, "rules", "remove"])
    bare = Report(topology, *options, "--xdp-mode", "off")
    assert bare.level("queue", "no rule brings it packets") == "problem"


@pytest.mark.lab
def test_what_is_wrong_is_a_problem_with_a_remedy(topology: Topology, folder: Path) -> None:
    foreign = ROOT / "tests" / "enforce" / "foreign_xdp.py"
    topology.router.run(["env", f"PYTHONPATH={ROOT}", sys.executable, str(foreign), WAN_INTERFACE])
    listener = topology.spawn(
        topology.router,
        [
            sys.executable,
            "-c",
            "import netfilterqueue as n; q = n.NetfilterQueue(); q.bind(0, print); q.run()",
        ],
        name="listener",
    )
    table = Path(f"/proc/{listener.process.pid}/net/netfilter/nfnetlink_queue")
    wait_until(lambda: bool(table.read_text()), 10, "somebody else listens")
    topology.router.run(["sysctl", "-qw", "net.ipv4.ip_forward=0"])
    topology.router.run(["sysctl", "-qw", "net.ipv6.conf.all.forwarding=0"])
    topology.router.run([*COMMAND, "rules", "apply", "--no-fail-open"])

    (folder / "chat.yaml").write_text(CHAT.replace("payload: '\"CHAT/1", "payload: '\"CHAT/3"))
    report = Report(
        topology,
        *("--interface", f"{WAN_INTERFACE},wg9", "--signatures", str(folder), "--no-fail-open"),
        *("--keep-xdp", "--state-directory", str(folder / "chat.yaml")),
    )
    assert report.exit_code == 1
    assert report.level("interfaces", "the XDP program somebody_else") == "problem"
    assert f"ip link set dev {WAN_INTERFACE} xdp off" in report.remedy("somebody_else")
    assert report.level("interfaces", "there is no interface 'wg9'") == "problem"
    assert report.level("network", "forwards nothing") == "warning"
    assert report.level("queue", f"(pid {listener.process.pid}) listens on it") == "problem"
    assert report.level("queue", "not fail-open") == "problem"
    assert report.level("software", "1 tests of signatures fail") == "problem"
    assert report.level("state", "there is no BPF file system") == "problem"
    assert report.level("state", "is no folder") == "problem"
    # All that it has found is still there: it only looks.
    assert table.read_text()
    shown = topology.router.run(["ip", "-details", "link", "show", "dev", WAN_INTERFACE]).stdout
    assert "somebody_else" in shown


@pytest.mark.lab
def test_without_privileges(topology: Topology, folder: Path) -> None:
    nobody = ("setpriv", "--bounding-set=-all")
    options = ("--signatures", str(folder), "--xdp-mode", "off")
    report = Report(topology, *options, prefix=nobody)
    assert report.level("privileges", "lacks CAP_NET_ADMIN and CAP_BPF") == "problem"


def test_signatures_with_mistakes(folder: Path) -> None:
    (folder / "chat.yaml").write_text(CHAT.replace("$hello at", "$goodbye at"))
    (finding,) = signatures(Settings(signatures=folder))
    assert finding.level == "problem"
    assert finding.remedy == f"btblocker check {folder}"


def test_a_folder_for_the_state(tmp_path: Path) -> None:
    (finding,) = keeping(Settings(state_directory=tmp_path))
    assert finding.level == "ok"


def test_bad_settings_are_the_user_s_mistake() -> None:
    done = subprocess.run(
        [*COMMAND, "doctor", "--queue-num", "x"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "--queue-num: " in done.stderr
