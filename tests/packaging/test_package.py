"""The Debian package, from its making to its purge, on a machine with a systemd of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from engine.service.daemon import READY
from tests.packaging.machine import Machine, boot
from tests.service.chat import CHAT
from tests.service.traffic import DHT_PING, INNOCENT, Datagrams
from tools.lab.program import wait_until
from tools.lab.topology import LAN_INTERFACE, WAN_INTERFACE, Topology

_TOOLS = Path(__file__).resolve().parent.parent.parent / "tools"
_UNIT = "/lib/systemd/system/btblocker.service"

SETTINGS = f"""
interface = ["{LAN_INTERFACE}", "{WAN_INTERFACE}"]
manage_rules = true
keep_xdp = true
chain = ["FORWARD"]
metrics_listen = "127.0.0.1:9810"
event_log = ["/var/log/btblocker/events.jsonl"]
"""


@pytest.mark.lab
@pytest.mark.timeout(600)  # the build alone takes half a minute of processor time
def test_it_is_installed_blocks_as_a_service_and_leaves_nothing(tmp_path: Path) -> None:
    built = subprocess.run([_TOOLS / "deb", tmp_path], check=True, stdout=subprocess.PIPE)
    package = Path(built.stdout.decode().strip())
    with Topology() as topology, boot(topology) as machine:
        before = machine.changed()
        shutil.copy(package, machine.root / "run/package.deb")
        machine.run("dpkg", "--install", "/run/package.deb")
        _is_quiet_until_enabled(machine)
        _has_what_it_promises(machine)

        (machine.root / "etc/btblocker/btblocker.toml").write_text(SETTINGS)
        (machine.root / "etc/btblocker/signatures/local.yaml").write_text(CHAT)
        machine.run("systemctl", "enable", "--now", "btblocker")
        _blocks(machine, topology)
        _reloads(machine)
        _comes_back_when_it_is_killed(machine)

        machine.run("systemctl", "stop", "btblocker")
        assert "xdp" in machine.run("ip", "link", "show", LAN_INTERFACE), "as keep_xdp says"
        machine.run("dpkg", "--purge", "btblocker")
        rules = machine.run("iptables-save") + machine.run("ip6tables-save")
        assert "BTBLOCKER" not in rules
        assert "xdp" not in machine.run("ip", "link", "show", LAN_INTERFACE)
        assert machine.changed() == before


def _is_quiet_until_enabled(machine: Machine) -> None:
    assert machine.run("systemctl", "is-enabled", "btblocker", check=False) == "disabled\n"
    assert machine.run("systemctl", "is-active", "btblocker", check=False) == "inactive\n"


def _has_what_it_promises(machine: Machine) -> None:
    assert machine.run("btblocker", "--version") == f"btblocker {version('btblocker')}\n"
    assert ": all well" in machine.run("btblocker", "check")
    assert machine.run("btblocker-sigtest", "--help").startswith("usage: btblocker-sigtest")
    assert "EXIT STATUS" in machine.run("man", "--encoding=ascii", "8", "btblocker")
    # It prints what it does not like, and fails for what systemd would refuse.
    assert machine.run("systemd-analyze", "verify", _UNIT) == ""
    machine.run("systemd-analyze", "security", "--offline=yes", "--threshold=35", _UNIT)


def _blocks(machine: Machine, topology: Topology) -> None:
    with Datagrams(topology) as datagrams:
        assert datagrams.pass_through()
        assert not datagrams.pass_through(DHT_PING)
        assert not datagrams.pass_through(INNOCENT)
    bans = _answer(machine, "bans")
    assert [ban["address"] for ban in bans] == [topology.client_address(4)]
    status = _answer(machine, "status")
    assert {each["name"] for each in status["xdp"]["interfaces"]} == set(topology.interfaces)
    # With no more than the unit's capabilities, its processes can be seen and serve.
    assert {"daemon", "worker 0"} <= {process["name"] for process in status["processes"]}
    assert "btblocker_" in machine.run("curl", "--silent", "http://127.0.0.1:9810/metrics")
    events = (machine.root / "var/log/btblocker/events.jsonl").read_text()
    assert '"detection"' in events


def _reloads(machine: Machine) -> None:
    machine.run("systemctl", "reload", "btblocker")
    wait_until(lambda: _answer(machine, "status")["signatures"]["reloads"] == 1, 60, "reload")


def _comes_back_when_it_is_killed(machine: Machine) -> None:
    machine.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", "btblocker")
    log = machine.service_log
    wait_until(lambda: log.read_text().count(READY) == 2, 60, "restart")
    assert _answer(machine, "bans"), "bans outlive it"


def _answer(machine: Machine, command: str) -> Any:
    return json.loads(machine.run("btblocker", command, "--json"))
