"""Signatures in the driver: the first packet dies there, and the blocker hears of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.service.chat import CHAT
from tests.service.traffic import DHT_PING, INNOCENT, Datagrams, tcp_exchange
from tools.lab.blocker import Blocker, run_blocker
from tools.lab.program import wait_until
from tools.lab.topology import LAN_INTERFACE, WAN_INTERFACE, Family, Topology

pytestmark = pytest.mark.lab

ROOT = Path(__file__).resolve().parent.parent.parent
CONNECT = (0x41727101980).to_bytes(8, "big") + bytes(4) + b"\1\2\3\4"
HANDSHAKE = b"\x13BitTorrent protocol" + bytes(48)
FAMILIES = pytest.mark.parametrize("family", [4, 6])


def _events(blocker: Blocker) -> list[dict[str, Any]]:
    if not blocker.event_log.exists():
        return []
    lines = map(json.loads, blocker.event_log.read_text().split("\n")[:-1])
    return [event for event in lines if event["event"] == "detection"]


def _told(blocker: Blocker, count: int) -> list[dict[str, Any]]:
    wait_until(lambda: len(_events(blocker)) >= count, 5, "told")
    return _events(blocker)


@FAMILIES
def test_the_first_datagram_dies_in_the_driver(topology: Topology, family: Family) -> None:
    with (
        run_blocker(topology, "--xdp-signatures") as blocker,
        Datagrams(topology, family) as datagrams,
    ):
        assert not datagrams.pass_through(CONNECT)
        (event,) = _told(blocker, 1)
        host = datagrams.client_address
        assert event["signature"] == "bittorrent.tracker.udp.connect"
        assert (event["in_driver"], event["flow_packet"], event["banned"]) == (True, 0, [host])
        assert event["source"].startswith(host if family == 4 else f"[{host}]")
        assert not datagrams.pass_through(INNOCENT)
        assert not datagrams.pass_back(INNOCENT)
        status = blocker.status()
        assert status["queue"]["packets"] == 0, "the queue has seen nothing of it"
        assert status["xdp"]["dropped_signature"] == 1
        assert status["detections"]["by_signature"] == {event["signature"]: 1}
        command = [sys.executable, "-m", "engine.cli", "bans", "--json"]
        (ban,) = json.loads(topology.router.run(command).stdout)
        assert (ban["address"], ban["reason"]) == (host, event["signature"])
        assert ban["packets"] == 2
        # The answer of the server went through the driver, too: to the banned host.
        assert ban["bytes"] == 2 * ((20 if family == 4 else 40) + 8 + len(INNOCENT))


def test_a_dht_query_dies_in_the_driver(topology: Topology) -> None:
    with run_blocker(topology, "--xdp-signatures") as blocker, Datagrams(topology) as datagrams:
        assert not datagrams.pass_through(DHT_PING)
        (event,) = _told(blocker, 1)
        assert (event["signature"], event["in_driver"]) == ("bittorrent.dht.query", True)


@FAMILIES
def test_the_first_segment_dies_in_the_driver(topology: Topology, family: Family) -> None:
    with run_blocker(topology, "--xdp-signatures") as blocker:
        assert tcp_exchange(topology, INNOCENT, family) == INNOCENT
        # What looks like a handshake in the middle of a stream is none.
        assert tcp_exchange(topology, INNOCENT + HANDSHAKE, family) == INNOCENT + HANDSHAKE
        assert tcp_exchange(topology, HANDSHAKE, family) == b""
        (event,) = _told(blocker, 1)
        assert (event["signature"], event["in_driver"]) == ("bittorrent.peer.handshake", True)
        assert blocker.status()["xdp"]["dropped_signature"] == 1


def test_who_only_monitors_has_no_signatures_in_the_driver(topology: Topology) -> None:
    with (
        run_blocker(topology, "--xdp-signatures", "--monitor-only") as blocker,
        Datagrams(topology) as datagrams,
    ):
        assert datagrams.pass_through(CONNECT)
        (event,) = _told(blocker, 1)
        assert not event["in_driver"]
        assert blocker.status()["xdp"] is None


@pytest.mark.parametrize(
    ("options", "banned"),
    [
        (("--ban", "remote", "--home-networks", "10.77.1.0/24"), "10.77.2.2"),
        (("--udp-bans", "confirmed"), None),
        (("--allow", "10.77.2.2"), None),
    ],
)
def test_the_driver_bans_nobody_whom_the_policy_does_not(
    topology: Topology, options: tuple[str, ...], banned: str | None
) -> None:
    with (
        run_blocker(topology, "--xdp-signatures", *options) as blocker,
        Datagrams(topology) as datagrams,
        Datagrams(topology) as other,
    ):
        is_allowed = "--allow" in options
        assert datagrams.pass_through(CONNECT) is is_allowed
        wait_until(lambda: blocker.status()["queue"]["packets"] >= 1, 5, "left to the queue")
        assert [event["banned"] for event in _events(blocker)] == (
            [] if is_allowed else [[banned] if banned else []]
        )
        assert blocker.status()["xdp"]["dropped_signature"] == 0
        assert other.pass_through() is (banned is None)


def test_a_signature_s_own_time_and_the_repeater_s_count_in_the_driver_as_well(
    topology: Topology, tmp_path: Path
) -> None:
    (tmp_path / "chat.yaml").write_text(
        CHAT.replace("{action: block}", "{action: block, ban: {for: 1s}}")
    )
    folder = ("--signatures", str(tmp_path), "--ban-growth", "100")
    with run_blocker(topology, "--xdp-signatures", *folder) as blocker:
        with Datagrams(topology) as datagrams:
            assert not datagrams.pass_through(b"CHAT/1 hello")
            wait_until(lambda: blocker.status()["bans"]["active"] == 0, 10, "over")
            assert datagrams.pass_through(INNOCENT)
            assert not datagrams.pass_through(b"CHAT/1 hello")
        wait_until(lambda: blocker.status()["bans"]["active"] == 1, 10, "banned again")
        command = [sys.executable, "-m", "engine.cli", "bans", "--json"]
        (ban,) = json.loads(topology.router.run(command).stdout)
        assert (ban["offences"], 80 <= ban["remaining_s"] <= 100) == (2, True)
        assert blocker.status()["xdp"]["dropped_signature"] == 2


def test_a_ban_of_the_driver_is_lifted_and_ends_like_any_other(topology: Topology) -> None:
    with run_blocker(topology, "--xdp-signatures") as blocker, Datagrams(topology) as datagrams:
        assert not datagrams.pass_through(CONNECT)
        _told(blocker, 1)
        command = [sys.executable, "-m", "engine.cli", "unban", datagrams.client_address]
        topology.router.run(command)
        assert datagrams.pass_through(INNOCENT)
        assert blocker.status()["bans"]["active"] == 0


def _in_driver(blocker: Blocker) -> list[str]:
    return list(blocker.status()["xdp"]["signatures"])


def test_a_reload_swaps_the_signatures_and_keeps_the_bans(
    topology: Topology, tmp_path: Path
) -> None:
    file = tmp_path / "chat.yaml"
    file.write_text(CHAT)
    folder = ("--signatures", str(tmp_path))
    with (
        run_blocker(topology, "--xdp-signatures", *folder) as blocker,
        Datagrams(topology) as client,
    ):
        assert _in_driver(blocker) == ["example.chat.hello"]
        file.write_text(CHAT.replace("chat.hello", "chat.second").replace("CHAT/1", "CHAT/2"))
        blocker.reload()
        wait_until(lambda: _in_driver(blocker) == ["example.chat.second"], 20, "swapped")
        wait_until(lambda: blocker.status()["signatures"]["reloads"] == 1, 20, "reloaded")
        assert client.pass_through(b"CHAT/1 hello")
        assert not client.pass_through(b"CHAT/2 hello")
        (event,) = _told(blocker, 1)
        assert (event["signature"], event["in_driver"]) == ("example.chat.second", True)

        file.write_text(
            CHAT.replace("CHAT/1", "CHAT/3").replace("'\"chat\"'", "'\"CHAT/3 hello\"'")
        )
        blocker.reload()
        wait_until(lambda: blocker.status()["signatures"]["failed_reloads"] == 1, 20, "refused")
        assert _in_driver(blocker) == ["example.chat.second"]
        file.write_text(CHAT.replace("action: block", "action: drop"))
        blocker.reload()
        wait_until(lambda: blocker.status()["signatures"]["reloads"] == 2, 20, "reloaded")
        assert _in_driver(blocker) == []
        assert not client.pass_through(INNOCENT), "the ban stays"


def test_what_the_kernel_refuses_runs_on_the_queue(topology: Topology, tmp_path: Path) -> None:
    (tmp_path / "signatures").mkdir()
    (tmp_path / "signatures" / "chat.yaml").write_text(CHAT)
    # The C of every signature reads what it has not looked for.
    (tmp_path / "sitecustomize.py").write_text(
        "import engine.compiler.c_condition as c\n"
        "c.condition_in_c = lambda condition, patterns: ('payload[100] == 1', ())\n"
    )
    program = topology.spawn(
        topology.router,
        [
            *(sys.executable, "-m", "engine.cli", "run", "--manage-rules", "--chain", "FORWARD"),
            *("--interface", f"{LAN_INTERFACE},{WAN_INTERFACE}", "--xdp-signatures"),
            *("--signatures", str(tmp_path / "signatures")),
        ],
        name="btblocker",
        environment={"PYTHONPATH": f"{tmp_path}:{ROOT}"},
    )
    program.wait_for(lambda: "btblocker is ready" in program.log.read_text(), 60)
    try:
        said = program.log.read_text()
        assert "warning[S105]: the driver does not take `example.chat.hello`" in said
        assert "0 signatures in the driver" in said
        with Datagrams(topology) as datagrams:
            assert datagrams.pass_through(INNOCENT)
            assert not datagrams.pass_through(b"CHAT/1 hello")
    finally:
        assert program.stop() == 0
