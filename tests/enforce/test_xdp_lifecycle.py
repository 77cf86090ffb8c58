"""Attaching, refusing and going away."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.enforce.conftest import (
    ROOT,
    FilterProcess,
    attached_program,
    monotonic_in,
    wait_until,
    wire,
)
from tests.netns import Namespace, connect

pytestmark = pytest.mark.lab

# How an operator counts bans in a shell; each entry prints one "key:".
COUNT_BANS = "bpftool map dump {which} | grep -c key:"


@pytest.fixture
def gate() -> Iterator[Namespace]:
    """A namespace with two interfaces, left0 and right0, joined to each other."""
    with Namespace("gate") as gate:
        connect(gate, "left0", gate, "right0")
        yield gate


def put_foreign_program(gate: Namespace, interface: str) -> None:
    script = str(Path(__file__).with_name("foreign_xdp.py"))
    gate.run(["env", f"PYTHONPATH={ROOT}", sys.executable, script, interface])


def test_closing_detaches_and_ip_shows_the_program_meanwhile(gate: Namespace) -> None:
    xdp = FilterProcess(gate, "left0,right0,left0", "auto")
    assert [at["interface"] for at in xdp.attachments] == ["left0", "right0"], xdp.refusal
    for attachment in xdp.attachments:
        interface = attachment["interface"]
        program = attached_program(gate, interface)
        assert program and program["id"] == attachment["program_id"]
        gate.run(["sh", "-c", f"ip link show {interface} | grep xdp"])
    assert xdp.close() == ""
    assert attached_program(gate, "left0") is None
    assert attached_program(gate, "right0") is None


def test_loopback_is_watched_too(gate: Namespace) -> None:
    xdp = FilterProcess(gate, "lo", "auto")
    assert [at["mode"] for at in xdp.attachments] == ["generic"], xdp.refusal
    xdp.close()


def test_native_mode_takes_large_frames(gate: Namespace) -> None:
    for interface in ("left0", "right0"):
        gate.run(["ip", "link", "set", "dev", interface, "mtu", "9000"])
    xdp = FilterProcess(gate, "left0", "auto")
    assert [at["mode"] for at in xdp.attachments] == ["native"], xdp.refusal
    xdp.close()


def test_nothing_stays_after_sigkill_and_a_restart_works(gate: Namespace) -> None:
    killed = FilterProcess(gate, "left0", "native")
    assert attached_program(gate, "left0")
    killed.kill()
    assert wait_until(lambda: attached_program(gate, "left0") is None)

    restarted = FilterProcess(gate, "left0", "native")
    assert restarted.refusal == ""
    restarted.close()


def test_a_second_instance_is_refused_and_the_first_goes_on(gate: Namespace) -> None:
    first = FilterProcess(gate, "left0", "generic")
    second = FilterProcess(gate, "left0", "auto")
    assert "left0: another btblocker runs here" in second.refusal
    assert second.exit_code == 1
    program = attached_program(gate, "left0")
    assert program and program["id"] == first.attachments[0]["program_id"]
    first.close()


@pytest.mark.parametrize("mode", ["auto", "native", "generic"])
def test_a_foreign_program_is_left_alone(gate: Namespace, mode: str) -> None:
    put_foreign_program(gate, "right0")
    before = attached_program(gate, "right0")
    assert before and before["name"] == "somebody_else"

    xdp = FilterProcess(gate, "left0,right0", mode)
    assert xdp.refusal == (
        f"right0: the XDP program somebody_else (id {before['id']}) is there already and was"
        " left alone; to take it off: ip link set dev right0 xdp off"
    )
    assert xdp.exit_code == 1
    assert xdp.close() == ""
    assert attached_program(gate, "right0") == before
    # All or nothing: the free interface was let go again.
    assert attached_program(gate, "left0") is None

    gate.run(["ip", "link", "set", "dev", "right0", "xdp", "off"])
    assert FilterProcess(gate, "right0", mode).refusal == ""


@pytest.mark.parametrize("unknown", ["wg7", "left0-and-much-more", ""])
def test_an_unknown_interface_is_named_beside_those_that_exist(
    gate: Namespace, unknown: str
) -> None:
    xdp = FilterProcess(gate, f"left0,{unknown}", "auto")
    assert xdp.refusal == (
        f"there is no interface {unknown!r} on this machine; it has: left0, lo, right0"
    )
    assert xdp.exit_code == 2
    assert attached_program(gate, "left0") is None


def test_native_mode_that_the_driver_lacks_is_refused_with_a_hint(gate: Namespace) -> None:
    xdp = FilterProcess(gate, "lo", "native")
    assert xdp.refusal == (
        "lo: native XDP is refused: Operation not supported; try --xdp-mode auto or generic"
    )
    assert xdp.close() == ""


def test_without_capabilities_one_line_says_what_is_needed(gate: Namespace) -> None:
    xdp = FilterProcess(gate, "left0", "auto", prefix=("setpriv", "--bounding-set=-all"))
    assert xdp.refusal == "XDP needs root (CAP_BPF and CAP_NET_ADMIN)"
    assert xdp.exit_code == 1
    assert xdp.close() == ""


def test_a_forked_child_that_closes_leaves_the_program_attached(gate: Namespace) -> None:
    xdp = FilterProcess(gate, "left0", "auto")
    assert xdp.close_in_child() == 0
    assert attached_program(gate, "left0")
    xdp.ban("10.0.0.1", monotonic_in(60))
    assert wire("10.0.0.1") in xdp.banned()
    xdp.close()


def test_an_interface_that_vanished_does_not_disturb_closing(gate: Namespace) -> None:
    xdp = FilterProcess(gate, "left0", "auto")
    gate.run(["ip", "link", "delete", "dev", "left0"])
    assert xdp.close() == ""
    assert xdp.process.returncode == 0


def test_all_bans_are_listed_and_bpftool_counts_them(gate: Namespace) -> None:
    xdp = FilterProcess(gate, "left0", "auto")
    expires_ns = monotonic_in(600)
    # The list is read in batches of 4096.
    ipv4 = [f"10.1.{i // 256}.{i % 256}" for i in range(5000)]
    ipv6 = [f"2001:db8::{i:x}" for i in range(40)]
    for address in ipv4 + ipv6:
        xdp.ban(address, expires_ns)
    assert xdp.banned() == dict.fromkeys(map(wire, ipv4 + ipv6), expires_ns)

    for name, count in (("blocked_ips", len(ipv4)), ("blocked_ips6", len(ipv6))):
        map_id = own_map(xdp.attachments[0]["program_id"], name)
        assert shell_count(COUNT_BANS.format(which=f"id {map_id}")) == count
    xdp.close()


def own_map(program_id: int, name: str) -> int:
    program = bpftool("prog", "show", "id", str(program_id))
    (map_id,) = [
        number
        for number in program["map_ids"]
        if bpftool("map", "show", "id", str(number))["name"] == name
    ]
    return int(map_id)


def bpftool(*arguments: str) -> dict[str, list[int]]:
    shown = subprocess.run(["bpftool", "-j", *arguments], capture_output=True, check=True)
    return dict(json.loads(shown.stdout))


def shell_count(command: str) -> int:
    return int(subprocess.run(command, shell=True, capture_output=True, check=True).stdout)
