"""What a running blocker does to packets: real queue, real XDP, real namespaces."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from tests.service.traffic import DHT_PING, INNOCENT, Datagrams, tcp_exchange
from tools.lab.addresses import Family
from tools.lab.blocker import Blocker, run_blocker
from tools.lab.program import wait_until
from tools.lab.topology import Topology

pytestmark = pytest.mark.lab

HANDSHAKE = b"\x13BitTorrent protocol" + bytes(48)
ON_THE_QUEUE_ALONE = ("--xdp-mode", "off")


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("options", [(), ON_THE_QUEUE_ALONE], ids=["xdp", "queue"])
def test_first_telling_datagram_and_all_after_it_are_dropped(
    topology: Topology, family: Family, options: tuple[str, ...]
) -> None:
    with run_blocker(topology, *options) as blocker, Datagrams(topology, family) as datagrams:
        assert datagrams.pass_through()
        assert datagrams.pass_back()
        assert not datagrams.pass_through(DHT_PING)
        assert not datagrams.pass_through(INNOCENT)
        assert not datagrams.pass_back(INNOCENT)
        assert [d.signature for d in blocker.detections()] == ["bittorrent.dht.query"]
        assert blocker.detections()[0].banned == (datagrams.client_address,)


@pytest.mark.parametrize("family", [4, 6])
def test_first_telling_segment_is_dropped(topology: Topology, family: Family) -> None:
    with run_blocker(topology) as blocker:
        assert tcp_exchange(topology, INNOCENT, family) == INNOCENT
        assert tcp_exchange(topology, HANDSHAKE, family) == b""
        assert [d.signature for d in blocker.detections()] == ["bittorrent.peer.handshake"]


def test_xdp_takes_over_from_the_queue(topology: Topology) -> None:
    with run_blocker(topology) as blocker, Datagrams(topology) as datagrams:
        datagrams.pass_through(DHT_PING)
        queued = blocker.kernel_queue()[0][7]
        dropped = blocker.status()["xdp"]["dropped_source"]
        for _ in range(50):
            datagrams.client.sendto(INNOCENT, datagrams.server.getsockname()[:2])
        wait_until(
            lambda: blocker.status()["xdp"]["dropped_source"] >= dropped + 50, 5, "XDP dropped"
        )
        assert blocker.kernel_queue()[0][7] == queued


@pytest.mark.parametrize("options", [(), ON_THE_QUEUE_ALONE], ids=["xdp", "queue"])
def test_a_ban_ends_by_itself(topology: Topology, options: tuple[str, ...]) -> None:
    # The interval between clean-ups is long: the ban must end without one.
    with (
        run_blocker(topology, *options, "--ban-duration", "1") as blocker,
        Datagrams(topology) as banned,
        Datagrams(topology) as other,
    ):
        assert not banned.pass_through(DHT_PING)
        time.sleep(1.1)
        assert other.pass_through()
        assert blocker.status()["bans"]["active"] == 0
        assert not banned.pass_through(), "the flow that told stays dropped"


def test_monitor_only_detects_and_touches_nothing(topology: Topology) -> None:
    with run_blocker(topology, "--monitor-only") as blocker, Datagrams(topology) as datagrams:
        assert datagrams.pass_through(DHT_PING)
        assert datagrams.pass_through(INNOCENT)
        assert tcp_exchange(topology, HANDSHAKE) == HANDSHAKE
        status = blocker.status()
        assert status["detections"]["total"] == 2
        assert status["queue"]["dropped"] == 0
        assert status["bans"]["active"] == 0
        assert all(d.banned == () for d in blocker.detections())


def _write_signature(folder: Path, text: str) -> None:
    (folder / "chat.yaml").write_text(text)


CHAT = """
id: example.chat.hello
title: A made-up protocol
scope: {transport: udp}
patterns: |
  $hello = "CHAT/1 hello"
when: |
  $hello at 0
then: {action: drop}
tests:
  - {expect: match, payload: '"CHAT/1 hello"'}
  - {expect: no match, payload: '"chat"'}
"""


def _reloads(blocker: Blocker) -> tuple[int, int]:
    signatures = blocker.status()["signatures"]
    return signatures["reloads"], signatures["failed_reloads"]


def test_a_new_signature_is_live_after_sighup(topology: Topology, tmp_path: Path) -> None:
    _write_signature(tmp_path, CHAT.replace("CHAT/1", "CHAT/0"))
    with (
        run_blocker(topology, "--signatures", str(tmp_path)) as blocker,
        Datagrams(topology) as datagrams,
    ):
        assert datagrams.pass_through(b"CHAT/1 hello")
        _write_signature(tmp_path, CHAT)
        blocker.reload()
        wait_until(lambda: _reloads(blocker) == (1, 0), 10, "reloaded")
        assert not datagrams.pass_through(b"CHAT/1 hello")


@pytest.mark.parametrize(
    "broken",
    [
        CHAT.replace("$hello at 0", "$hullo at 0"),
        CHAT.replace("no match", "match"),
        "id: [",
        "",
    ],
    ids=["unknown pattern", "its own test fails", "no YAML", "no signature left"],
)
def test_a_broken_file_changes_nothing_but_the_log(
    topology: Topology, tmp_path: Path, broken: str
) -> None:
    _write_signature(tmp_path, CHAT)
    with (
        run_blocker(topology, "--signatures", str(tmp_path)) as blocker,
        Datagrams(topology) as datagrams,
    ):
        _write_signature(tmp_path, broken)
        blocker.reload()
        wait_until(lambda: _reloads(blocker) == (0, 1), 10, "refused")
        assert "reload refused" in blocker.program.log.read_text()
        assert not datagrams.pass_through(b"CHAT/1 hello")


def test_a_refused_reload_leaves_the_settings_alone(topology: Topology, tmp_path: Path) -> None:
    old, new, settings = tmp_path / "old", tmp_path / "new", tmp_path / "settings.toml"
    for folder in (old, new):
        folder.mkdir()
        _write_signature(folder, CHAT)
    settings.write_text(f'signatures = "{old}"\nban_duration = 60\n')

    def folder_and_ban(blocker: Blocker) -> tuple[str, int]:
        address = topology.server_address(4)
        command = [sys.executable, "-m", "engine.cli", "ban", address, "--json"]
        ban = json.loads(topology.router.run(command).stdout)
        return blocker.status()["signatures"]["folder"], round(ban["remaining_s"], -1)

    with run_blocker(topology, "--config", str(settings)) as blocker:
        settings.write_text(f'signatures = "{new}"\nban_duration = 900\n')
        _write_signature(new, CHAT.replace("$hello at 0", "$hullo at 0"))
        blocker.reload()
        wait_until(lambda: _reloads(blocker) == (0, 1), 10, "refused")
        assert folder_and_ban(blocker) == (str(old), 60)
        settings.write_text("ban_duration = 'long'\n")
        blocker.reload()
        wait_until(lambda: _reloads(blocker) == (0, 2), 10, "refused again")
        assert folder_and_ban(blocker) == (str(old), 60)
        settings.write_text(f'signatures = "{new}"\nban_duration = 900\n')
        _write_signature(new, CHAT)
        blocker.reload()
        wait_until(lambda: _reloads(blocker) == (1, 2), 10, "reloaded")
        assert folder_and_ban(blocker) == (str(new), 900)


def test_reloads_lose_no_packet(topology: Topology) -> None:
    with run_blocker(topology) as blocker, Datagrams(topology) as datagrams:
        sent = 0
        received = set()
        datagrams.server.settimeout(2)
        for _ in range(3):
            before = sum(_reloads(blocker))
            blocker.reload()
            deadline = time.monotonic() + 10
            while sum(_reloads(blocker)) == before and time.monotonic() < deadline:
                for _ in range(200):
                    datagrams.client.sendto(b"%d" % sent, datagrams.server.getsockname()[:2])
                    received.add(int(datagrams.server.recv(64)))
                    sent += 1
        assert _reloads(blocker) == (3, 0)
        assert received == set(range(sent))
        queue = blocker.status()["queue"]
        assert (queue["queue_dropped"], queue["user_dropped"], queue["errors"]) == (0, 0, 0)
