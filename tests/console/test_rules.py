"""The commands `rules` and `detach`, in a namespace where no blocker runs."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.netns import Namespace

pytestmark = pytest.mark.lab


@pytest.fixture
def gate() -> Iterator[Namespace]:
    with Namespace("gate") as gate:
        yield gate


def btblocker(gate: Namespace, *arguments: str) -> subprocess.CompletedProcess[str]:
    return gate.run([sys.executable, "-m", "engine.cli", *arguments], check=False)


def tables(gate: Namespace) -> str:
    return "".join(
        gate.run([command, "-t", "mangle", "-S"]).stdout for command in ("iptables", "ip6tables")
    )


def test_apply_and_remove_can_be_said_twice(gate: Namespace) -> None:
    gate.run(["iptables", "-t", "mangle", "-A", "FORWARD", "-j", "ACCEPT"])
    before = tables(gate)
    settings = ("--workers", "2", "--chain", "FORWARD")
    assert btblocker(gate, "rules", "apply", *settings).returncode == 0
    applied = tables(gate)
    assert "-A FORWARD -j BTBLOCKER-0" in applied
    assert "--queue-balance 0:1 --queue-bypass" in applied
    again = btblocker(gate, "rules", "apply", *settings)
    assert (again.returncode, again.stdout) == (0, "all rules are in place\n")
    assert tables(gate) == applied

    # What is printed is what is applied.
    removed = json.loads(btblocker(gate, "rules", "remove", "--json").stdout)
    assert removed == {"removed": ["iptables", "ip6tables"]}
    assert tables(gate) == before
    gate.run(["sh", "-ec", btblocker(gate, "rules", "print", *settings).stdout])
    assert tables(gate) == applied

    # Other settings replace what is there.
    assert btblocker(gate, "rules", "apply", "--chain", "INPUT").returncode == 0
    assert "-A FORWARD -j BTBLOCKER-0" not in tables(gate)
    assert "--queue-num 0 --queue-bypass" in tables(gate)

    # The same goes with everything else that a blocker leaves.
    done = btblocker(gate, "detach")
    assert (done.returncode, done.stdout) == (
        0,
        "the rules are removed from iptables and ip6tables\n",
    )
    assert tables(gate) == before
    assert btblocker(gate, "rules", "remove").stdout == "there were none\n"


def test_detach_is_refused_while_somebody_serves_the_queue(gate: Namespace) -> None:
    assert btblocker(gate, "rules", "apply", "--queue-num", "7").returncode == 0
    with gate.call(lambda: socket.socket(socket.AF_UNIX)) as running:
        running.bind("\0btblocker/queue-7")
        refused = btblocker(gate, "detach", "--queue-num", "7")
        assert refused.returncode == 1
        assert refused.stderr == "btblocker: a btblocker runs on queue 7 here: stop it first\n"
        assert "BTBLOCKER-7" in tables(gate)
        assert btblocker(gate, "detach").stdout == "nothing of queue 0 was left\n"
    assert "BTBLOCKER-7" in tables(gate)
    assert btblocker(gate, "detach", "--queue-num", "7").returncode == 0
    assert "BTBLOCKER-7" not in tables(gate)


def test_bad_settings_are_the_user_s_mistake(gate: Namespace) -> None:
    done = btblocker(gate, "rules", "apply", "--chain", "PREROUTING")
    assert done.returncode == 2
    assert done.stderr.startswith("btblocker: --chain: ")
