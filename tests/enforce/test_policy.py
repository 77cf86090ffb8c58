from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from engine.enforce.policy import Policy, local_addresses
from engine.inspect.inspector import Detection
from engine.inspect.packet import Endpoint

STRANGER = ip_address("198.51.100.7").packed
BLOCK = Detection(
    "a.b", 1, "block", "udp", Endpoint(STRANGER, 1), Endpoint(bytes([192, 0, 2, 1]), 2), 1, 1
)


def test_a_block_bans_the_source() -> None:
    assert Policy().banned_by(BLOCK) == (STRANGER,)


@pytest.mark.parametrize("action", ["drop", "log"])
def test_nothing_else_bans(action: str) -> None:
    assert Policy().banned_by(replace(BLOCK, action=action)) == ()  # type: ignore[arg-type]


def test_what_is_inside_a_tunnel_bans_nobody() -> None:
    assert Policy().banned_by(replace(BLOCK, tunnelled=True)) == ()


@pytest.mark.parametrize(
    ("address", "exempt"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("169.254.1.1", True),
        ("fe80::1", True),
        ("224.0.0.1", True),
        ("239.192.152.143", True),
        ("ff15::efc0:988f", True),
        ("255.255.255.255", True),
        ("0.0.0.0", True),
        ("::", True),
        ("10.0.0.1", False),
        ("198.51.100.7", False),
        ("2001:db8::7", False),
        ("fd00::7", False),
    ],
)
def test_who_is_never_banned(address: str, exempt: bool) -> None:
    packed = ip_address(address).packed
    assert Policy().is_exempt(packed) is exempt
    banned = Policy().banned_by(replace(BLOCK, source=Endpoint(packed, 1)))
    assert banned == (() if exempt else (packed,))


def test_the_machine_is_never_banned() -> None:
    policy = Policy()
    own = local_addresses()
    assert bytes([127, 0, 0, 1]) in own
    assert all(policy.is_exempt(address) for address in own)
