from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.enforce.networks import NO_HOST, NetworkSet


@pytest.mark.parametrize(
    ("address", "is_in"),
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
        ("0.0.0.1", False),
        ("10.0.0.1", False),
        ("198.51.100.7", False),
        ("2001:db8::7", False),
        ("fd00::7", False),
    ],
)
def test_what_names_no_host(address: str, is_in: bool) -> None:
    assert (ip_address(address).packed in NetworkSet(NO_HOST)) is is_in


def test_none_is_false() -> None:
    assert not NetworkSet()
    assert NetworkSet([ip_network("10.0.0.0/8")])
    assert NetworkSet([ip_network("::/0")])
    assert bytes(4) not in NetworkSet([ip_network("::/0")])


V4 = st.builds(
    lambda address, bits: ip_network((address, bits), strict=False),
    st.integers(0, 255).map(lambda low: 0x0A000000 + low),
    st.integers(20, 32),
)


@given(st.lists(V4, max_size=8), st.integers(0, 0x1FFF))
def test_it_is_what_the_networks_are(networks: list, low: int) -> None:  # type: ignore[type-arg]
    address = ip_address(0x0A000000 + low)
    wanted = any(address in network for network in networks)
    assert (address.packed in NetworkSet(networks)) is wanted
