"""Whom a running blocker bans, whom it lets alone, and what the operator says of both."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.enforce.frames import ip_udp
from tests.service.commands import answer, btblocker
from tests.service.traffic import DHT_PING, INNOCENT, Datagrams
from tools.lab.blocker import run_blocker
from tools.lab.namespace import call_in
from tools.lab.program import LabError, wait_until
from tools.lab.topology import Topology

pytestmark = pytest.mark.lab

CLIENT, SERVER = "10.77.1.2", "10.77.2.2"  # see tools/lab/topology.py
ON_THE_QUEUE_ALONE = ("--xdp-mode", "off")
BOTH_WAYS = pytest.mark.parametrize("options", [(), ON_THE_QUEUE_ALONE], ids=["xdp", "queue"])


def banned(topology: Topology) -> list[str]:
    return [ban["address"] for ban in answer(topology, "bans")]


# --- the operator


def test_bans_are_listed_lifted_and_made_by_hand(topology: Topology) -> None:
    with run_blocker(topology), Datagrams(topology) as datagrams, Datagrams(topology) as other:
        datagrams.pass_through(DHT_PING)
        (ban,) = answer(topology, "bans")
        assert (ban["address"], ban["reason"]) == (CLIENT, "bittorrent.dht.query")
        assert (ban["offences"], ban["first_seen"]) == (1, ban["last_seen"])
        assert "bittorrent.dht.query" in btblocker(topology, "bans").stdout
        assert btblocker(topology, "bans", "--plain").stdout == f"{CLIENT}\n"
        assert btblocker(topology, "unban", CLIENT).returncode == 0
        assert other.pass_through()
        (made,) = answer(topology, "ban", CLIENT, "--duration", "60", "--reason", "a call")[
            "banned"
        ]
        assert (made["reason"], made["remaining_s"] in (59, 60)) == ("a call", True)
        assert not other.pass_through()
        assert "1 dropped" in btblocker(topology, "status").stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("unban", "192.0.2.77"), 1, "192.0.2.77 is not banned"),
        (("ban", "10.77.1.1"), 1, "10.77.1.1 is this machine's own"),
        (("ban", "10.77.1.1:80"), 1, "10.77.1.1:80 is this machine's own"),
        (("ban", "224.0.0.1"), 1, "names no host"),
        (("ban", "somebody"), 1, "'somebody' does not appear to be an IPv4 or IPv6 address"),
        (("ban", "192.0.2.77", "--duration", "-1"), 1, "whole number of seconds"),
        (("ban", "192.0.2.77", "--reason", "two\nlines"), 1, "printable"),
        (("ban",), 2, "ban whom?"),
        (("ban", "--file", "/nowhere"), 2, "cannot read /nowhere"),
        (("allow", "10.0.0.1/8"), 1, "has host bits set"),
        (("allow", "--remove", "10.0.0.1"), 1, "is not allowed"),
        (("allow", "--remove"), 2, "whom?"),
    ],
)
def test_requests_that_make_no_sense(
    requested: Topology, arguments: tuple[str, ...], code: int, said: str
) -> None:
    done = btblocker(requested, *arguments)
    assert done.returncode == code
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert banned(requested) == []


@pytest.fixture(scope="module")
def requested() -> Iterator[Topology]:
    """A gateway whose blocker is only asked."""
    with Topology() as made, run_blocker(made, *ON_THE_QUEUE_ALONE):
        yield made


def test_lists_go_out_and_come_in(topology: Topology, tmp_path: Path) -> None:
    many = [f"198.18.{number // 250}.{number % 250 + 1}" for number in range(3000)]
    plain = tmp_path / "plain"
    plain.write_text("# a list\n\n" + "\n".join([*many, f"{CLIENT}  # the last"]))
    with run_blocker(topology, *ON_THE_QUEUE_ALONE) as blocker, Datagrams(topology) as datagrams:
        assert datagrams.pass_through()
        done = btblocker(topology, "ban", "--file", str(plain), "--reason", "list")
        assert (done.returncode, done.stdout) == (0, "3001 banned, 0 refused\n")
        assert not datagrams.pass_through(), "the queue heard of all"
        exported = btblocker(topology, "bans", "--json").stdout
        assert btblocker(topology, "bans", "--plain").stdout.splitlines() == [*many, CLIENT]
        assert btblocker(topology, "unban", *many[:600], CLIENT).returncode == 0
        assert datagrams.pass_through()
        assert blocker.status()["bans"]["active"] == 2400
        mixed = tmp_path / "exported.json"
        mixed.write_text(exported.replace(f'"{many[0]}"', '"127.0.0.1"'))
        done = btblocker(topology, "ban", "--file", str(mixed))
        assert (done.returncode, done.stdout) == (1, "3000 banned, 1 refused\n")
        assert "127.0.0.1 is this machine's own" in done.stderr
        assert {ban["reason"] for ban in answer(topology, "bans")} == {"list"}


# --- whom


@BOTH_WAYS
def test_the_remote_side_alone_is_banned(topology: Topology, options: tuple[str, ...]) -> None:
    lan = ("--home-networks", "10.77.1.0/24")
    with (
        run_blocker(topology, "--ban", "remote", *lan, *options),
        Datagrams(topology) as datagrams,
        Datagrams(topology) as other,
    ):
        assert not datagrams.pass_through(DHT_PING)
        assert banned(topology) == [SERVER]
        assert not other.pass_back()
        assert not other.pass_through()


def test_an_endpoint_is_banned_and_the_host_is_not(topology: Topology) -> None:
    with (
        run_blocker(topology, "--ban", "endpoint") as blocker,
        Datagrams(topology, client_port=6881) as torrent,
        Datagrams(topology) as other,
    ):
        assert not torrent.pass_through(DHT_PING)
        assert banned(topology) == [f"{CLIENT}:6881"]
        assert blocker.detections()[0].banned == (f"{CLIENT}:6881",)
        # Another flow, of the same endpoint.
        torrent.client.sendto(INNOCENT, other.server.getsockname()[:2])
        with pytest.raises(TimeoutError):
            other.server.recv(100)
        assert other.pass_through()
        wait_until(lambda: answer(topology, "bans")[0]["packets"] == 1, 5, "counted")


def test_a_signature_has_the_last_word(topology: Topology, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        """
id: lab.word
title: A word
scope: {transport: udp}
patterns: |
  $word = "xyzzy"
when: |
  $word at 0
then: {action: block, ban: {of: both, for: 2h}}
tests:
  - {expect: match, payload: '"xyzzy"'}
  - {expect: no match, payload: '"plugh"'}
"""
    )
    options = ("--signatures", str(tmp_path), "--ban", "none", "--ban-duration", "60")
    with run_blocker(topology, *options), Datagrams(topology) as datagrams:
        assert not datagrams.pass_through(b"xyzzy")
        bans = answer(topology, "bans")
        assert {ban["address"] for ban in bans} == {CLIENT, SERVER}
        assert all(7190 <= ban["remaining_s"] <= 7200 for ban in bans)


@BOTH_WAYS
def test_gateways_are_never_banned(topology: Topology, options: tuple[str, ...]) -> None:
    topology.router.run(["ip", "route", "add", "default", "via", CLIENT])
    with (
        run_blocker(topology, *options),
        Datagrams(topology) as datagrams,
        Datagrams(topology) as other,
    ):
        assert not datagrams.pass_through(DHT_PING)
        assert banned(topology) == []
        assert other.pass_through()


def test_a_new_gateway_is_unbanned(topology: Topology) -> None:
    with run_blocker(topology, "--cleanup-interval", "1"), Datagrams(topology) as datagrams:
        datagrams.pass_through(DHT_PING)
        assert banned(topology) == [CLIENT]
        topology.router.run(["ip", "route", "add", "default", "via", CLIENT])
        wait_until(lambda: banned(topology) == [], 10, "unbanned")


def test_bans_of_a_repeater_grow(topology: Topology) -> None:
    with run_blocker(topology, "--ban-duration", "1", "--ban-growth", "100"):
        with Datagrams(topology) as datagrams:
            datagrams.pass_through(DHT_PING)
        wait_until(lambda: banned(topology) == [], 10, "the first ban is over")
        with Datagrams(topology) as datagrams:
            datagrams.pass_through(DHT_PING)
        (ban,) = answer(topology, "bans")
        assert ban["offences"] == 2
        assert 90 <= ban["remaining_s"] <= 100


# --- forged sources


def send_forged(topology: Topology, source: str) -> None:
    """A DHT ping from the client's network in another one's name."""

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
            raw.sendto(ip_udp(source, SERVER, 6881, DHT_PING), (SERVER, 0))

    call_in(topology.client.name, send)


VICTIM = "10.77.1.99"


def test_a_forged_packet_bans_whom_it_names(topology: Topology) -> None:
    with run_blocker(topology):
        send_forged(topology, VICTIM)
        wait_until(lambda: banned(topology) == [VICTIM], 10, "banned")


@BOTH_WAYS
def test_confirmed_bans_need_both_sides(topology: Topology, options: tuple[str, ...]) -> None:
    with (
        run_blocker(topology, "--udp-bans", "confirmed", *options) as blocker,
        Datagrams(topology) as datagrams,
        Datagrams(topology) as other,
    ):
        send_forged(topology, VICTIM)
        wait_until(lambda: len(blocker.detections()) == 1, 10, "detected")
        assert not datagrams.pass_through(DHT_PING), "dropped all the same"
        assert not datagrams.pass_through(), "and so is the flow"
        assert banned(topology) == []
        assert not datagrams.pass_back()
        wait_until(lambda: banned(topology) == [CLIENT], 5, "banned once the other side answers")
        assert not other.pass_through()
        assert blocker.status()["detections"]["total"] == 2
        assert [found.banned for found in blocker.detections()] == [(), (), (CLIENT,)]


def test_confirmed_bans_of_an_answered_flow_are_immediate(topology: Topology) -> None:
    with run_blocker(topology, "--udp-bans", "confirmed"), Datagrams(topology) as datagrams:
        assert datagrams.pass_through()
        assert datagrams.pass_back()
        assert not datagrams.pass_through(DHT_PING)
        assert banned(topology) == [CLIENT]


# --- who is let alone


@BOTH_WAYS
def test_an_allowed_customer_is_let_alone_for_good(
    topology: Topology, options: tuple[str, ...]
) -> None:
    state = ("--state-directory", str(topology.folder / "state"))
    with Datagrams(topology) as datagrams:
        with contextlib.suppress(LabError), run_blocker(topology, *state, *options) as blocker:
            assert not datagrams.pass_through(DHT_PING)
            assert answer(topology, "ban", SERVER)["banned"]
            done = btblocker(topology, "allow", CLIENT)
            assert done.stdout == f"allowed: {CLIENT}; bans lifted: 1\n"
            assert banned(topology) == [SERVER]
            assert datagrams.pass_through(DHT_PING)
            assert datagrams.pass_through(), "the flow is free, too, even to a banned peer"
            assert datagrams.pass_back()
            blocker.program.stop(signal.SIGKILL)
        with run_blocker(topology, *state, *options):
            assert datagrams.pass_through(DHT_PING)
            (allowed,) = answer(topology, "allow")
            assert allowed["network"] == CLIENT
            assert btblocker(topology, "allow", "--remove", CLIENT).returncode == 0
            assert btblocker(topology, "unban", SERVER).returncode == 0
            assert not datagrams.pass_through(DHT_PING)
            assert banned(topology) == [CLIENT]


def test_without_a_state_directory_that_is_said(topology: Topology) -> None:
    with run_blocker(topology, *ON_THE_QUEUE_ALONE):
        done = btblocker(topology, "allow", "10.0.0.0/8", "2001:db8::/32")
        assert done.returncode == 0
        assert "This ends with the blocker" in done.stdout
        assert "2001:db8::/32" in btblocker(topology, "allow").stdout


def test_the_configuration_s_networks_follow_a_reload(topology: Topology) -> None:
    config = topology.folder / "btblocker.toml"
    config.write_text(f'allow = ["{CLIENT}"]\n')
    with run_blocker(topology, "--config", str(config)) as blocker, Datagrams(topology) as flow:
        assert flow.pass_through(DHT_PING)
        done = btblocker(topology, "allow", "--remove", CLIENT)
        assert "take it out there, reload" in done.stderr
        config.write_text('allow = []\nban = "remote"\nhome_networks = ["10.77.1.0/24"]\n')
        blocker.reload()
        wait_until(lambda: blocker.status()["signatures"]["reloads"] == 1, 30, "reloaded")
        assert not flow.pass_through(DHT_PING)
        assert banned(topology) == [SERVER]


def test_a_worker_that_takes_another_s_place_knows_them_all(topology: Topology) -> None:
    with (
        run_blocker(topology, *ON_THE_QUEUE_ALONE) as blocker,
        Datagrams(topology) as datagrams,
    ):
        btblocker(topology, "allow", CLIENT)
        btblocker(topology, "ban", "10.77.1.50")
        (worker,) = blocker.status()["workers"]
        os.kill(worker["pid"], signal.SIGKILL)
        wait_until(
            lambda: [w["pid"] for w in blocker.status()["workers"]] not in ([], [worker["pid"]]),
            30,
            "replaced",
        )
        assert datagrams.pass_through(DHT_PING)
        assert blocker.detections() == []


def test_the_control_socket_refuses_what_is_no_list(topology: Topology) -> None:
    with run_blocker(topology, *ON_THE_QUEUE_ALONE):
        for request in (
            {"command": "ban", "address": CLIENT},
            {"command": "ban", "bans": [CLIENT]},
            {"command": "unban", "addresses": [1]},
            {"command": "allow", "networks": "10.0.0.0/8"},
            {"command": "disallow", "networks": [None]},
        ):
            said = _ask(topology, request)
            assert "of the wrong kind" in said["error"]


def _ask(topology: Topology, request: object) -> dict[str, str]:
    client = call_in(topology.router.name, lambda: socket.socket(socket.AF_UNIX))
    with client, client.makefile("rb") as stream:
        client.connect("\0btblocker/queue-0")
        client.sendall(json.dumps(request).encode() + b"\n")
        said: dict[str, str] = json.loads(stream.readline())
        return said
