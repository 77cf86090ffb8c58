"""What reloads change, what they leave alone, and that packets pass meanwhile."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from tests.service.chat import CHAT
from tests.service.load import Load
from tests.service.traffic import Datagrams
from tools.bench.many_signatures import write_signatures
from tools.lab.blocker import Blocker, run_blocker
from tools.lab.program import wait_until
from tools.lab.topology import Topology

pytestmark = pytest.mark.lab

ON_THE_QUEUE_ALONE = ("--xdp-mode", "off")
TEN_THOUSAND = 10_000


def _write_signature(folder: Path, text: str) -> None:
    (folder / "chat.yaml").write_text(text)


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
        (ban,) = json.loads(topology.router.run(command).stdout)["banned"]
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


def test_a_reload_follows_the_profile(topology: Topology, tmp_path: Path) -> None:
    signatures, settings = tmp_path / "signatures", tmp_path / "settings.toml"
    signatures.mkdir()
    _write_signature(signatures, CHAT.replace("scope:", "certainty: guess\nscope:"))
    chosen = f'signatures = "{signatures}"\ndetection_profile = '
    settings.write_text(chosen + '"balanced"\n')
    with (
        run_blocker(topology, "--config", str(settings), *ON_THE_QUEUE_ALONE) as blocker,
        Datagrams(topology) as datagrams,
    ):
        assert datagrams.pass_through(b"CHAT/1 hello")
        settings.write_text(chosen + '"strict"\n')
        blocker.reload()
        wait_until(lambda: _reloads(blocker) == (1, 0), 10, "reloaded")
        assert blocker.status()["signatures"]["profile"] == "strict"
        assert not datagrams.pass_through(b"CHAT/1 hello")


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


def test_a_reload_of_ten_thousand_signatures_loses_no_packet(
    topology: Topology, tmp_path: Path
) -> None:
    few, many, settings = tmp_path / "few", tmp_path / "many", tmp_path / "settings.toml"
    for folder in (few, many):
        folder.mkdir()
    _write_signature(few, CHAT)
    write_signatures(many, TEN_THOUSAND)
    settings.write_text(f'signatures = "{few}"\n')
    with run_blocker(topology, "--config", str(settings), *ON_THE_QUEUE_ALONE) as blocker:
        with Load(topology.lines[0]) as load:
            for count, folder in enumerate((many, few), 1):
                settings.write_text(f'signatures = "{folder}"\n')
                blocker.reload()
                wait_until(lambda count=count: _reloads(blocker) == (count, 0), 120, "reloaded")
                loaded = blocker.status()["signatures"]["loaded"]
                assert loaded == (TEN_THOUSAND if folder is many else 1)
        assert load.sent > 1000
        assert (load.missing, load.stream_is_whole) == (0, True)
        queue = blocker.status()["queue"]
        assert (queue["queue_dropped"], queue["user_dropped"], queue["errors"]) == (0, 0, 0)
