from __future__ import annotations

import time
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from engine.config import Settings
from engine.enforce import enforcement as module
from engine.enforce.banned import BannedAddresses
from engine.enforce.enforcement import Enforcement
from engine.enforce.machine import Machine
from engine.enforce.target import parse_target, target_text
from engine.errors import InputError
from engine.inspect.judgement import Detection
from engine.inspect.packet import Endpoint
from tests.captures import udp

A, B = "198.51.100.1", "198.51.100.2"
DETECTION = Detection(
    "a.b", 1, "block", "udp", Endpoint(parse_target(A), 1), Endpoint(parse_target(B), 2), 1, 1
)
PACKET = udp(A, 1, "192.0.2.1", 2, b"x")


class Queue(BannedAddresses):
    """What workers do with what they are told."""

    def ban(self, target: bytes, until_ns: int) -> None:
        self.set(target, until_ns)

    def unban(self, target: bytes) -> None:
        self.set(target, 0)


def begun(
    folder: Path | None = None, machine: Machine | None = None, **settings: object
) -> tuple[Enforcement, BannedAddresses]:
    queue = Queue()
    made = Enforcement(
        Settings.model_validate({"state_directory": folder, **settings}),
        machine or Machine(),
        queue,
    )
    made.begin()
    return made, queue


def in_force(enforcement: Enforcement) -> list[str]:
    return [target_text(ban.target) for ban in enforcement.bans]


def test_a_detection_bans_and_a_restart_keeps_it(tmp_path: Path) -> None:
    first, queue = begun(tmp_path)
    (ban,) = first.punish(DETECTION)
    assert (target_text(ban.target), ban.reason) == (A, "a.b")
    assert queue.judge(PACKET) is True
    first.allow([ip_network("10.0.0.0/8")])
    first.close()
    second, queue = begun(tmp_path)
    assert queue.judge(PACKET) is True
    assert in_force(second) == [A]
    assert [str(network) for network, _ in second.allowed()] == ["10.0.0.0/8"]
    second.unban(parse_target(A))
    second.disallow(ip_network("10.0.0.0/8"))
    second.close()
    third, queue = begun(tmp_path)
    assert queue.judge(PACKET) is None
    assert (in_force(third), third.allowed()) == ([], [])
    third.close()


def test_what_is_allowed_is_let_alone_and_lifted() -> None:
    enforcement, queue = begun()
    enforcement.punish(DETECTION)
    (lifted,) = enforcement.allow([ip_network("198.51.100.0/24")])
    assert (target_text(lifted.target), lifted.reason) == (A, "a.b")
    assert queue.judge(PACKET) is False
    assert enforcement.punish(DETECTION) == []
    with pytest.raises(InputError, match="is allowed"):
        enforcement.ban(parse_target(A))
    enforcement.disallow(ip_network("198.51.100.0/24"))
    assert queue.judge(PACKET) is None
    assert enforcement.punish(DETECTION)


def test_what_the_configuration_allows_stays_there() -> None:
    enforcement, queue = begun(allow="198.51.100.1, 10.0.0.0/8")
    assert queue.judge(PACKET) is False
    with pytest.raises(InputError, match=r"the configuration allows 10\.0\.0\.0/8"):
        enforcement.disallow(ip_network("10.0.0.0/8"))
    with pytest.raises(InputError, match="is not allowed"):
        enforcement.disallow(ip_network("11.0.0.0/8"))
    enforcement.configure(Settings())
    assert queue.judge(PACKET) is None


def test_allowing_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ALLOWED", 2)
    enforcement, _ = begun()
    enforcement.allow(map(ip_network, (A, B)))
    enforcement.allow([ip_network(A)])
    with pytest.raises(InputError, match="no more than 2"):
        enforcement.allow([ip_network("10.0.0.1")])


def test_a_new_gateway_is_unbanned(tmp_path: Path) -> None:
    enforcement, queue = begun(tmp_path)
    enforcement.punish(DETECTION)
    machine = Machine(gateways=frozenset({parse_target(A)}))
    assert [ban.reason for ban in enforcement.take_machine(machine)] == ["a.b"]
    assert enforcement.take_machine(machine) == []
    assert queue.judge(PACKET) is None
    with pytest.raises(InputError, match=f"{A} is this machine's gateway"):
        enforcement.ban(parse_target(A))
    enforcement.close()


def test_what_was_kept_of_one_that_is_exempt_now_is_not_banned(tmp_path: Path) -> None:
    first, _ = begun(tmp_path)
    first.punish(DETECTION)
    first.close()
    second, queue = begun(tmp_path, Machine(resolvers=frozenset({parse_target(A)})))
    assert (in_force(second), queue.judge(PACKET)) == ([], None)
    second.close()
    third, _ = begun(tmp_path)
    assert in_force(third) == [], "nor later"
    third.close()


def test_monitoring_bans_nobody_and_keeps_what_was_kept(tmp_path: Path) -> None:
    first, _ = begun(tmp_path)
    first.punish(DETECTION)
    first.close()
    second, queue = begun(tmp_path, monitor_only=True)
    assert second.punish(replace(DETECTION, action="block")) == []
    assert (in_force(second), queue.judge(PACKET)) == ([], None)
    with pytest.raises(InputError, match="only monitors"):
        second.ban(parse_target(B))
    second.clean_up()
    second.close()
    third, _ = begun(tmp_path)
    assert in_force(third) == [A]
    third.close()


def test_a_reload_changes_how_bans_grow() -> None:
    enforcement, _ = begun(ban_duration=10, ban_growth=1)
    target = parse_target(A)
    for growth, lasts_s in ((1, 10), (5, 50)):
        enforcement.configure(Settings(ban_duration=10, ban_growth=growth))
        enforcement.punish(DETECTION)
        (ban,) = enforcement.bans
        assert ban.remaining_s in (lasts_s - 1, lasts_s)
        # As if it had run out.
        ban.expires_ns = time.monotonic_ns()
        assert enforcement.clean_up() == [ban]
    assert enforcement.punish(DETECTION)[0].target == target


def test_a_file_that_was_begun_anew_gets_everything(tmp_path: Path) -> None:
    first, _ = begun(tmp_path)
    first.punish(DETECTION)
    first.allow([ip_network("10.0.0.0/8")])
    first.state.begun_anew = True
    first.state._changes.clear()
    first.clean_up()
    first.close()
    second, _ = begun(tmp_path)
    assert in_force(second) == [A]
    assert len(second.allowed()) == 1
    second.close()
