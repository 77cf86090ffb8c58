from __future__ import annotations

import os
import re
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.enforce.connmark import MarkBits
from engine.enforce.redirect import Redirect
from engine.errors import InputError
from tests.enforce.conftest import ROOT
from tests.netns import Namespace

COMMANDS = ("iptables", "ip6tables")
BITS = MarkBits.of(0x70)
PASSING = "-m addrtype ! --src-type LOCAL ! --dst-type LOCAL"
WITHOUT_CAPABILITIES = ("setpriv", "--bounding-set=-all")
COMMAND = pytest.mark.parametrize("command", COMMANDS)


def test_rules_are_shell_commands_for_both_ip_versions() -> None:
    rules = [rule for rule in Redirect(3, ["FORWARD"]).rules() if "-m bpf" not in rule]
    assert rules == [
        line
        for command in COMMANDS
        for line in (
            f"{command} -t mangle -N BTBLOCKER-3",
            f"{command} -t mangle -A BTBLOCKER-3 -m conntrack --ctstate UNTRACKED",
            *(
                f"{command} -t mangle -A BTBLOCKER-3 {packets} "
                "-j NFQUEUE --queue-num 3 --queue-bypass"
                for packets in (
                    "-p tcp",
                    "-p udp",
                    f"-p 4 {PASSING}",
                    f"-p 41 {PASSING}",
                    f"-p 47 {PASSING}",
                )
            ),
            f"{command} -t mangle -A FORWARD -j BTBLOCKER-3",
        )
    ]


def test_tunnels_and_fragments_can_be_left_alone() -> None:
    rules = Redirect(3, ["FORWARD"], tunnels=False, defragment=False).rules()
    assert rules == [
        line
        for line in Redirect(3, ["FORWARD"]).rules()
        if "LOCAL" not in line and "conntrack" not in line
    ]
    assert len(rules) == 2 * 5


def test_marked_connections_have_a_chain_of_their_own() -> None:
    own, marked = "BTBLOCKER-3", "BTBLOCKER-3-MARKED"
    queue = "NFQUEUE --queue-num 3 --queue-bypass"
    syn = "-p tcp -m tcp --tcp-flags SYN SYN"
    rules = Redirect(3, ["FORWARD"], tunnels=False, marks=BITS).rules()
    empty = [rule for rule in rules if "-m bpf" in rule]
    assert [rule.split()[0] for rule in empty] == [COMMANDS[0]] * 2 + [COMMANDS[1]] * 2
    assert [rule for rule in rules if rule not in empty] == [
        f"{command} -t mangle {rule}"
        for command in COMMANDS
        for rule in (
            f"-N {own}",
            f"-N {marked}",
            f"-A {own} -m conntrack --ctstate UNTRACKED",
            f"-A {own} -p tcp -m connmark ! --mark 0x0/0x70 -g {marked}",
            f"-A {own} -p udp -m connmark --mark 0x40/0x40 -j DROP",
            f"-A {own} -p tcp -j {queue}",
            f"-A {own} -p udp -j {queue}",
            f"-A {marked} {syn} -j CONNMARK --set-xmark 0x0/0x70",
            f"-A {marked} {syn} -j {queue}",
            f"-A {marked} -m connmark --mark 0x40/0x40 -j DROP",
            f"-A {marked} -m connmark --mark 0x10/0x10 -m conntrack --ctdir ORIGINAL -j RETURN",
            f"-A {marked} -m connmark --mark 0x20/0x20 -m conntrack --ctdir REPLY -j RETURN",
            f"-A {marked} -j {queue}",
            f"-A FORWARD -j {own}",
        )
    ]


def test_resets_stand_at_the_head_of_the_filter_table() -> None:
    rules = Redirect(3, ["FORWARD"], marks=BITS, reset=True).rules()
    assert [rule for rule in rules if " filter " in rule] == [
        f"{command} -t filter {rule}"
        for command in COMMANDS
        for rule in (
            "-N BTBLOCKER-3",
            "-A BTBLOCKER-3 -p tcp -m connmark --mark 0x40/0x40 -m tcp ! --tcp-flags RST RST "
            "-j REJECT --reject-with tcp-reset",
            "-I FORWARD -j BTBLOCKER-3",
        )
    ]
    assert [rule for rule in rules if "0x40/0x40 -j RETURN" in rule]


@pytest.mark.parametrize("queue_num", [-1, 65_536])
def test_a_queue_number_out_of_range_is_refused(queue_num: int) -> None:
    with pytest.raises(InputError, match=f"queue number {queue_num} is out of range: 0 to 65535"):
        Redirect(queue_num)


def test_an_unknown_chain_is_refused() -> None:
    with pytest.raises(InputError, match="no chain 'PREROUTING': choose from INPUT, FORWARD"):
        Redirect(0, ["INPUT", "PREROUTING"])


@pytest.fixture
def gate() -> Iterator[Namespace]:
    with Namespace("gate") as gate:
        yield gate


def table(gate: Namespace, command: str, name: str = "mangle") -> list[str]:
    return gate.run([command, "-t", name, "-S"]).stdout.splitlines()


def act(
    gate: Namespace,
    statements: str,
    *,
    check: bool = True,
    path: str = "",
    prefix: tuple[str, ...] = (),
) -> str:
    """Run Python in the gate that knows Redirect; returns what it wrote on standard error."""
    return gate.run(
        [
            *prefix,
            "env",
            f"PYTHONPATH={ROOT}",
            f"PATH={path or os.environ['PATH']}",
            sys.executable,
            "-c",
            "from engine.enforce.connmark import MarkBits\n"
            "from engine.enforce.redirect import Redirect\n"
            f"BITS = MarkBits.of(0x70)\n{statements}",
        ],
        check=check,
    ).stderr


@pytest.mark.lab
@COMMAND
def test_rules_are_there_while_open_and_nothing_else_changes(gate: Namespace, command: str) -> None:
    gate.run([command, "-t", "mangle", "-A", "FORWARD", "-j", "MARK", "--set-mark", "5"])
    gate.run([command, "-t", "mangle", "-N", "BTBLOCKER-40"])
    gate.run([command, "-t", "mangle", "-A", "INPUT", "-j", "BTBLOCKER-40"])
    before = table(gate, command)

    act(gate, "Redirect(4).install()")
    added = [line for line in table(gate, command) if line not in before]
    assert sorted(line for line in added if "-m bpf" not in line) == [
        "-A BTBLOCKER-4 -m conntrack --ctstate UNTRACKED",
        *(
            f"-A BTBLOCKER-4 -p {name} {PASSING} -j NFQUEUE --queue-num 4 --queue-bypass"
            for name in ("gre", "ipencap", "ipv6")
        ),
        "-A BTBLOCKER-4 -p tcp -j NFQUEUE --queue-num 4 --queue-bypass",
        "-A BTBLOCKER-4 -p udp -j NFQUEUE --queue-num 4 --queue-bypass",
        "-A FORWARD -j BTBLOCKER-4",
        "-A INPUT -j BTBLOCKER-4",
        "-N BTBLOCKER-4",
    ]
    act(gate, "Redirect(4).remove()")
    assert table(gate, command) == before


@pytest.mark.lab
@COMMAND
def test_leftovers_are_replaced_and_never_doubled(gate: Namespace, command: str) -> None:
    untouched = table(gate, command)
    act(gate, "Redirect(0).install()")
    once = table(gate, command)
    act(gate, "Redirect(0).install()")
    assert table(gate, command) == once

    # A run with other chains, and one whose rules were doubled by hand.
    gate.run([command, "-t", "mangle", "-A", "OUTPUT", "-p", "udp", "-j", "BTBLOCKER-0"])
    gate.run([command, "-t", "mangle", "-I", "INPUT", "-j", "BTBLOCKER-0"])
    act(gate, "Redirect(0, ['FORWARD']).install()")
    jumps = [line for line in table(gate, command) if line.endswith("-j BTBLOCKER-0")]
    assert jumps == ["-A FORWARD -j BTBLOCKER-0"]

    act(gate, "Redirect(0).remove()\nRedirect(0).remove()")
    assert table(gate, command) == untouched


@pytest.mark.lab
@COMMAND
def test_leftovers_of_marks_and_resets_are_taken_away(gate: Namespace, command: str) -> None:
    gate.run([command, "-A", "FORWARD", "-p", "icmp", "-j", "ACCEPT"])
    before = table(gate, command), table(gate, command, "filter")
    act(gate, "Redirect(0, marks=BITS, reset=True).install()")
    once = table(gate, command), table(gate, command, "filter")
    assert once[1].index("-A FORWARD -j BTBLOCKER-0") < once[1].index(before[1][-1])
    act(gate, "Redirect(0, marks=BITS, reset=True).install()")
    assert (table(gate, command), table(gate, command, "filter")) == once
    act(gate, "Redirect(0).install()")
    assert not [line for line in table(gate, command) if "MARKED" in line]
    assert table(gate, command, "filter") == before[1]
    act(gate, "Redirect(0, marks=BITS, reset=True).install()\nRedirect(0).remove()")
    assert (table(gate, command), table(gate, command, "filter")) == before


@pytest.mark.lab
def test_two_queues_do_not_meet(gate: Namespace) -> None:
    act(gate, "Redirect(1).install()")
    first = table(gate, "iptables")
    act(gate, "with Redirect(11): pass")
    assert table(gate, "iptables") == first


@pytest.mark.lab
@COMMAND
def test_the_printed_commands_do_what_install_does(gate: Namespace, command: str) -> None:
    rules = Redirect(5, marks=BITS, reset=True).rules()
    gate.run(["sh", "-e", "-c", "\n".join(rules)])
    by_hand = table(gate, command), table(gate, command, "filter")
    act(gate, "Redirect(5, marks=BITS, reset=True).install()")
    assert (table(gate, command), table(gate, command, "filter")) == by_hand
    act(gate, "assert Redirect(5, marks=BITS, reset=True).missing() == []")


@pytest.mark.lab
@pytest.mark.parametrize("loopback", ["127.0.0.1", "::1"])
def test_packets_pass_without_a_listener_and_after_the_operators_rules(
    gate: Namespace, loopback: str
) -> None:
    family, command = (
        (socket.AF_INET6, "ip6tables") if ":" in loopback else (socket.AF_INET, "iptables")
    )
    # As an operator clamps the MSS: in mangle, which the queue's verdict would cut short.
    gate.run([command, "-t", "mangle", "-A", "INPUT", "-p", "udp", "-j", "MARK", "--set-mark", "9"])
    gate.run([command, "-A", "INPUT", "-m", "mark", "--mark", "9"])
    act(gate, "Redirect(6).install()")
    with (
        gate.call(lambda: socket.socket(family, socket.SOCK_DGRAM)) as receiver,
        gate.call(lambda: socket.socket(family, socket.SOCK_DGRAM)) as sender,
    ):
        receiver.bind((loopback, 0))
        receiver.settimeout(10)
        sender.sendto(b"hello", receiver.getsockname()[:2])
        assert receiver.recv(100) == b"hello"
    assert queued(gate, command, "udp") == 1
    marked = gate.run([command, "-nvxL", "INPUT"]).stdout.splitlines()[2]
    assert marked.split()[0] == "1"


@pytest.mark.lab
@pytest.mark.parametrize("loopback", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("marks", ["None", "BITS"])
def test_mere_acknowledgements_pass_by_the_queue(
    gate: Namespace, loopback: str, marks: str
) -> None:
    family, command = (
        (socket.AF_INET6, "ip6tables") if ":" in loopback else (socket.AF_INET, "iptables")
    )
    act(gate, f"Redirect(6, marks={marks}).install()")
    with (
        gate.call(lambda: socket.create_server((loopback, 0), family=family)) as server,
        gate.call(lambda: socket.socket(family)) as client,
    ):
        client.connect(server.getsockname())
        connection, _ = server.accept()
        with connection:
            for _ in range(20):
                client.sendall(b"x")
                assert connection.recv(9) == b"x"
            # Both SYNs, and 20 segments; of the acknowledgements few, and those for marks alone.
            acknowledged = queued(gate, command, "tcp") - 22
    assert 0 < acknowledged < 10 if marks == "BITS" else acknowledged == 0


def queued(gate: Namespace, command: str, transport: str) -> int:
    """How many packets of a transport have come to queue 6."""
    saved = gate.run([f"{command}-save", "--counters", "--table", "mangle"]).stdout
    found = re.search(rf"\[(\d+):\d+\] -A BTBLOCKER-6 -p {transport} -j NFQUEUE", saved)
    assert found is not None
    return int(found[1])


@pytest.mark.lab
def test_if_ipv6_is_refused_ipv4_is_taken_back(gate: Namespace, tmp_path: Path) -> None:
    before = {command: table(gate, command) for command in COMMANDS}
    provide(tmp_path, "iptables", "iptables-restore", "ip6tables")
    (tmp_path / "ip6tables-restore").symlink_to("/bin/false")
    refused = act(gate, "Redirect(0).install()", path=str(tmp_path), check=False)
    assert "UnavailableError: ip6tables-restore refuses the rules of table mangle" in refused
    assert {command: table(gate, command) for command in COMMANDS} == before


@pytest.mark.lab
def test_without_ip6tables_ipv4_goes_on_with_a_warning(gate: Namespace, tmp_path: Path) -> None:
    provide(tmp_path, "iptables", "iptables-restore")
    warning = act(gate, "Redirect(0).install()", path=str(tmp_path))
    assert "ip6tables is not installed: only IPv4 is redirected" in warning
    assert "-N BTBLOCKER-0" in table(gate, "iptables")
    assert "-N BTBLOCKER-0" not in table(gate, "ip6tables")
    act(gate, "Redirect(0).remove()", path=str(tmp_path))
    assert "-N BTBLOCKER-0" not in table(gate, "iptables")


@pytest.mark.lab
def test_without_iptables_one_line_says_what_to_install(gate: Namespace, tmp_path: Path) -> None:
    refused = act(gate, "Redirect(0).install()", path=str(tmp_path), check=False)
    last = refused.splitlines()[-1]
    assert last.endswith("iptables is not installed: apt-get install iptables")


@pytest.mark.lab
def test_without_capabilities_iptables_own_reason_is_told(gate: Namespace) -> None:
    refused = act(gate, "Redirect(0).install()", check=False, prefix=WITHOUT_CAPABILITIES)
    assert "UnavailableError: iptables refuses" in refused.splitlines()[-1]
    assert "you must be root" in refused.splitlines()[-1]


def provide(folder: Path, *commands: str) -> None:
    """Let a folder serve as PATH with only these commands of the machine's."""
    for name in commands:
        (folder / name).symlink_to(str(shutil.which(name)))
