"""Coming, going and going wrong: what the operator of a gateway sees."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.commands import COMMAND, btblocker
from tests.service.traffic import DHT_PING, Datagrams
from tools.lab.blocker import run_blocker
from tools.lab.namespace import call_in
from tools.lab.program import LabError, wait_until
from tools.lab.topology import LAN_INTERFACE, Topology

pytestmark = pytest.mark.lab

ROOT = Path(__file__).resolve().parent.parent.parent


def _traces(topology: Topology) -> str:
    """What a blocker could leave on the router: rules, XDP, queues."""
    shown = ""
    for command in ("iptables-save", "ip6tables-save"):
        shown += topology.router.run([command, "-t", "mangle"]).stdout
    links = json.loads(topology.router.run(["ip", "-json", "link"]).stdout)
    lines = [line for line in shown.splitlines() if "BTBLOCKER" in line]
    return "\n".join(lines + [str(link["xdp"]) for link in links if "xdp" in link])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_orderly_stop_leaves_nothing(topology: Topology, number: signal.Signals) -> None:
    # run_blocker complains that its blocker has ended; here that is what was wanted.
    with contextlib.suppress(LabError), run_blocker(topology) as blocker:
        assert _traces(topology)
        assert blocker.program.stop(number) == 0
    assert not _traces(topology)
    assert btblocker(topology, "status").returncode == 1


def test_killed_traffic_flows_on_and_a_restart_works(topology: Topology) -> None:
    with Datagrams(topology) as datagrams:
        with contextlib.suppress(LabError), run_blocker(topology) as blocker:
            assert not datagrams.pass_through(DHT_PING)
            blocker.program.process.kill()
            blocker.program.process.wait()
            # What a worker had in hand when it ended is lost, as on a full wire.
            passed = any(datagrams.pass_through() for _ in range(3))
            assert passed, "neither XDP nor the queue rules stop it"
            assert datagrams.pass_through(DHT_PING)
        with run_blocker(topology):
            assert not datagrams.pass_through(DHT_PING)
            rules = topology.router.run(["iptables-save", "-t", "mangle"]).stdout
            assert rules.count("-p tcp -j NFQUEUE") == 1, "leftover rules were doubled"
    assert not _traces(topology)


def test_the_seed_s_commands(topology: Topology) -> None:
    with run_blocker(topology), Datagrams(topology) as datagrams:
        datagrams.pass_through(DHT_PING)
        router = topology.router
        assert "xdp" in router.run(["sh", "-c", f"ip link show {LAN_INTERFACE} | grep xdp"]).stdout
        # As JSON, because maps of that name that others have made may be described otherwise.
        counted = router.run(
            ["sh", "-c", """bpftool -j map dump name blocked_ips | grep -o '"key"' | wc -l"""]
        )
        assert int(counted.stdout) >= 1
        queues = router.run(["cat", "/proc/net/netfilter/nfnetlink_queue"]).stdout
        assert queues.split()[0] == "0"


@pytest.fixture(scope="module")
def idle() -> Iterator[Topology]:
    """A gateway on which no blocker runs."""
    with Topology() as made:
        yield made


AS_NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")


@pytest.mark.parametrize(
    ("arguments", "prefix", "code", "said"),
    [
        (("run", "--queue-num", "65536"), (), 2, "--queue-num: "),
        (("run", "--queue-num", "x"), (), 2, "--queue-num: "),
        (("run",), ("env", "QUEUE_NUM=-1"), 2, "the environment's QUEUE_NUM: "),
        (("run", "--chain", "PREROUTING"), (), 2, "--chain: "),
        (
            ("run", "--signatures", "/nosuch"),
            (),
            2,
            "there is no signature file or folder",
        ),
        (("run", "--config", "/nosuch"), (), 2, "/nosuch: No such file or directory"),
        (("run", "--detection-log", "/nosuch/log"), (), 2, "cannot write the detection log"),
        (("run",), AS_NOBODY, 1, "it needs root"),
        (("status",), (), 1, "no btblocker runs on queue 0 here"),
        (("check", "/nosuch"), (), 2, "there is no signature file or folder"),
    ],
)
def test_bad_input_is_one_clear_line(
    idle: Topology, arguments: tuple[str, ...], prefix: tuple[str, ...], code: int, said: str
) -> None:
    done = btblocker(idle, *arguments, prefix=prefix)
    output = done.stderr + done.stdout
    assert done.returncode == code
    assert said in output
    assert output.count("\n") == 1
    assert "Traceback" not in output
    assert not _traces(idle)


def test_a_taken_queue_is_refused(topology: Topology) -> None:
    with run_blocker(topology, "--xdp-mode", "off"):
        done = btblocker(topology, "run", "--manage-rules")
        assert done.returncode == 1
        assert "another program listens on it" in done.stderr
        assert _traces(topology), "the running one keeps its rules"


def test_without_managing_rules_it_prints_them(topology: Topology) -> None:
    with run_blocker(topology, "--xdp-mode", "off", "--no-manage-rules") as blocker:
        assert not _traces(topology)
        log = blocker.program.log.read_text()
        rules = [line.split("INFO   ")[1] for line in log.splitlines() if "INFO   ip" in line]
        topology.router.run(["sh", "-ec", "\n".join(rules)])
        with Datagrams(topology) as datagrams:
            assert not datagrams.pass_through(DHT_PING)


def test_a_foreign_xdp_program_is_left_alone(topology: Topology) -> None:
    foreign = ROOT / "tests" / "enforce" / "foreign_xdp.py"
    # It attaches its program and ends.
    topology.spawn(
        topology.router,
        [sys.executable, str(foreign), LAN_INTERFACE],
        name="foreign",
        environment={"PYTHONPATH": str(ROOT)},
    )
    wait_until(lambda: "xdp" in _link(topology, LAN_INTERFACE), 20, "foreign program attached")
    before = _link(topology, LAN_INTERFACE)["xdp"]
    with run_blocker(topology) as blocker, Datagrams(topology) as datagrams:
        log = blocker.program.log.read_text()
        assert f"Failed to initialize XDP filter: {LAN_INTERFACE}: " in log
        assert not datagrams.pass_through(DHT_PING)
        assert _link(topology, LAN_INTERFACE)["xdp"] == before
    assert _link(topology, LAN_INTERFACE)["xdp"] == before


def _link(topology: Topology, interface: str) -> dict[str, object]:
    shown = topology.router.run(["ip", "-json", "-details", "link", "show", "dev", interface])
    link: dict[str, object] = json.loads(shown.stdout)[0]
    return link


def _open_tun(name: str) -> int:
    """A TUN device of this name (linux/if_tun.h); packets written to it arrive on it."""
    device = os.open("/dev/net/tun", os.O_RDWR)
    tun_without_packet_information = 0x0001 | 0x1000
    fcntl.ioctl(
        device, 0x400454CA, struct.pack("16sH", name.encode(), tun_without_packet_information)
    )
    return device


def test_a_tun_device_drops_what_is_banned(topology: Topology) -> None:
    router = topology.router
    device = call_in(router.name, lambda: _open_tun("tun0"))
    try:
        router.run(["ip", "address", "add", "10.88.0.1/24", "dev", "tun0"])
        router.run(["ip", "link", "set", "tun0", "up"])
        receiver = call_in(router.name, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        with receiver, run_blocker(topology, interfaces=("tun0",), chain="INPUT") as blocker:
            assert blocker.status()["xdp"]["interfaces"] == [{"name": "tun0", "mode": "generic"}]
            receiver.bind(("10.88.0.1", 7000))
            receiver.settimeout(1)
            os.write(device, _udp("10.88.0.2", "10.88.0.1", 7000, b"first"))
            assert receiver.recv(100) == b"first"
            btblocker(topology, "ban", "10.88.0.2")
            os.write(device, _udp("10.88.0.2", "10.88.0.1", 7000, b"banned"))
            os.write(device, _udp("10.88.0.3", "10.88.0.1", 7000, b"innocent"))
            assert receiver.recv(100) == b"innocent"
            assert blocker.status()["xdp"]["dropped_source"] == 1
    finally:
        os.close(device)


def _udp(source: str, destination: str, port: int, payload: bytes) -> bytes:
    """An IPv4 UDP datagram without a UDP checksum."""
    length = 28 + len(payload)
    header = struct.pack(
        ">BBHHHBBH4s4s",
        *(0x45, 0, length, 0, 0, 64, socket.IPPROTO_UDP, 0),
        socket.inet_aton(source),
        socket.inet_aton(destination),
    )
    total = sum(struct.unpack(">10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = ~(total + (total >> 16)) & 0xFFFF
    header = header[:10] + checksum.to_bytes(2, "big") + header[12:]
    return header + struct.pack(">HHHH", 6999, port, 8 + len(payload), 0) + payload


def test_make_run_blocks(topology: Topology) -> None:
    program = topology.spawn(
        topology.router,
        ["make", "-C", str(ROOT), "run", f"ARGS=--interface {LAN_INTERFACE}"],
        name="make-run",
    )
    program.wait_for(lambda: "btblocker is ready" in program.log.read_text(), 60)
    with Datagrams(topology) as datagrams:
        assert datagrams.pass_through()
        assert not datagrams.pass_through(DHT_PING)
    # As an impatient terminal does: to everybody, more than once.
    for _ in range(3):
        os.killpg(program.process.pid, signal.SIGINT)
        time.sleep(0.02)
    wait_until(lambda: not _traces(topology), 10, "cleaned up")


def test_the_environment_is_heard(topology: Topology) -> None:
    program = topology.spawn(
        topology.router,
        [*COMMAND, "run", "--manage-rules"],
        name="btblocker",
        environment={
            "INTERFACE": LAN_INTERFACE,
            "QUEUE_NUM": "5",
            "MONITOR_ONLY": "true",
            "PYTHONPATH": str(ROOT),
        },
    )
    program.wait_for(lambda: "btblocker is ready" in program.log.read_text(), 20)
    status = json.loads(btblocker(topology, "status", "--queue-num", "5", "--json").stdout)
    assert status["monitor_only"] is True
    assert status["queue"]["number"] == 5
    assert program.stop() == 0


def test_the_control_socket_survives_garbage(topology: Topology) -> None:
    with run_blocker(topology, "--xdp-mode", "off") as blocker:
        for garbage in (b"\xff\xfe\n", b"[]\n", b"{}\n", b"[" * 50000 + b"\n", b""):
            client = call_in(topology.router.name, lambda: socket.socket(socket.AF_UNIX))
            with client, contextlib.suppress(OSError):
                client.connect("\0btblocker/queue-0")
                client.sendall(garbage)
                client.shutdown(socket.SHUT_WR)
                client.recv(4096)
        wait_until(lambda: blocker.status()["queue"]["errors"] == 0, 5, "still answers")


def test_a_failing_judge_accepts_the_packet(topology: Topology) -> None:
    driver = Path(__file__).with_name("failing_judge.py")
    program = topology.spawn(
        topology.router,
        [sys.executable, str(driver)],
        name="failing-judge",
        environment={"PYTHONPATH": str(ROOT)},
    )
    program.wait_for(lambda: "bound" in program.log.read_text(), 10)
    topology.router.run(["iptables", "-t", "mangle", "-A", "FORWARD", "-p", "udp", "-j", "NFQUEUE"])
    with Datagrams(topology) as datagrams:
        for _ in range(5):
            assert datagrams.pass_through()
    assert program.stop() == 0
    assert "errors 5 packets 5" in program.log.read_text()
