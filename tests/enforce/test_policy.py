from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from engine.config import BanTarget, Settings
from engine.enforce.machine import Machine
from engine.enforce.policy import Policy, Sentence
from engine.enforce.target import parse_target, target_text
from engine.inspect.judgement import Detection
from engine.inspect.packet import Endpoint
from engine.language.form import Ban

OWN, GATEWAY, RESOLVER = map(parse_target, ("203.0.113.9", "203.0.113.1", "203.0.113.53"))
MACHINE = Machine(frozenset({OWN}), frozenset({GATEWAY}), frozenset({RESOLVER}))


def end(text: str) -> Endpoint:
    target = parse_target(text)
    return Endpoint(target[:-2], int.from_bytes(target[-2:], "big"))


CUSTOMER, OTHER_CUSTOMER = end("10.8.0.17:51413"), end("10.8.0.18:6881")
PEER, OTHER_PEER = end("198.51.100.7:6881"), end("198.51.100.8:6882")
BLOCK = Detection("a.b", 1, "block", "udp", CUSTOMER, PEER, 1, 1)


def banned(detection: Detection, **settings: object) -> list[str]:
    policy = Policy(Settings.model_validate(settings), MACHINE)
    return [target_text(sentence.target) for sentence in policy.sentences(detection)]


@pytest.mark.parametrize("action", ["drop", "log", "tag"])
def test_only_block_bans(action: str) -> None:
    assert banned(BLOCK) == ["10.8.0.17"]
    assert banned(replace(BLOCK, action=action)) == []  # type: ignore[arg-type]


def test_what_is_inside_a_tunnel_bans_nobody() -> None:
    assert banned(replace(BLOCK, tunnelled=True)) == []


@pytest.mark.parametrize(
    ("of", "source", "destination", "targets"),
    [
        ("source", CUSTOMER, PEER, ["10.8.0.17"]),
        ("source", PEER, CUSTOMER, ["198.51.100.7"]),
        ("remote", CUSTOMER, PEER, ["198.51.100.7"]),
        ("remote", PEER, CUSTOMER, ["198.51.100.7"]),
        ("remote", CUSTOMER, OTHER_CUSTOMER, []),
        ("remote", PEER, OTHER_PEER, ["198.51.100.7"]),
        ("remote", Endpoint(OWN, 1), PEER, ["198.51.100.7"]),
        ("both", CUSTOMER, PEER, ["10.8.0.17", "198.51.100.7"]),
        ("both", CUSTOMER, Endpoint(GATEWAY, 1), ["10.8.0.17"]),
        ("endpoint", CUSTOMER, PEER, ["10.8.0.17:51413"]),
        ("endpoint", Endpoint(RESOLVER, 53), CUSTOMER, []),
        ("none", CUSTOMER, PEER, []),
    ],
)
def test_whom(of: BanTarget, source: Endpoint, destination: Endpoint, targets: list[str]) -> None:
    detection = replace(BLOCK, source=source, destination=destination)
    assert banned(detection, ban=of) == targets
    assert banned(replace(detection, ban=Ban(of=of)), ban="both") == targets
    assert banned(replace(detection, ban=Ban(of=of)), ban="none") == targets


def test_home_is_where_the_configuration_says() -> None:
    settings = {"ban": "remote", "home_networks": ["198.51.100.0/24"]}
    assert banned(BLOCK, **settings) == ["10.8.0.17"]


def test_for_how_long() -> None:
    policy = Policy(Settings(ban_duration=60), MACHINE)
    customer = CUSTOMER.address
    assert policy.sentences(BLOCK) == (Sentence(customer, 60),)
    an_hour = Ban.model_validate({"for": "1h"})
    assert policy.sentences(replace(BLOCK, ban=an_hour)) == (Sentence(customer, 3600),)
    elsewhere = Ban(of="none")
    assert policy.sentences(replace(BLOCK, ban=elsewhere)) == ()


ONE_WAY = replace(BLOCK, two_way=False)
ANSWERED = replace(BLOCK, repeated=True)


@pytest.mark.parametrize(
    ("udp_bans", "detection", "bans"),
    [
        ("immediate", ONE_WAY, True),
        ("immediate", BLOCK, True),
        ("immediate", ANSWERED, False),  # it was banned at once
        ("confirmed", ONE_WAY, False),
        ("confirmed", BLOCK, True),
        ("confirmed", ANSWERED, True),
    ],
)
def test_whether_a_forged_packet_would_do(udp_bans: str, detection: Detection, bans: bool) -> None:
    assert bool(banned(detection, udp_bans=udp_bans)) is bans


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("203.0.113.9", "is this machine's own"),
        ("203.0.113.1", "is this machine's gateway"),
        ("203.0.113.53", "is this machine's resolver"),
        ("224.0.0.251", "names no host"),
        ("fe80::1", "names no host"),
        ("10.8.0.200", "is allowed"),
        ("2001:db8::5", "is allowed"),
        ("10.8.0.17", ""),
        ("2001:db9::5", ""),
    ],
)
def test_who_is_never_banned(address: str, why: str) -> None:
    allowed = (ip_network("10.8.0.128/25"), ip_network("2001:db8::/32"))
    policy = Policy(Settings(), MACHINE, allowed)
    assert policy.why_exempt(parse_target(address)) == why
    sentences = policy.sentences(replace(BLOCK, source=Endpoint(parse_target(address), 1)))
    assert len(sentences) == (not why)
    networks = policy.exempt_networks()
    assert any(parse_target(address) == network.network_address.packed for network in networks) is (
        "machine" in why
    )
