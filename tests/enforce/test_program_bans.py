"""What a match in the XDP program leads to, whom it spares, and what the kernel refuses."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from engine.compiler.driver import DriverSignature, in_driver
from engine.enforce.program import build_program, fit
from engine.language.form import Then
from tests.captures import udp
from tests.enforce.chat_packets import (
    ENDS,
    HELLO,
    A,
    B,
    chat,
    sources,
)
from tests.enforce.running import driver

pytestmark = pytest.mark.lab


def test_a_match_bans_from_the_next_packet_on() -> None:
    with driver(in_driver([chat()]), ban_ns=3600 * 10**9) as loaded:
        assert loaded.drops(udp(A, 1000, B, 2000, HELLO))
        assert loaded.drops(udp(A, 1, B, 2, b"anything"))
        assert loaded.drops(udp(B, 1, A, 2, b"anything"))
        assert not loaded.drops(udp(B, 1000, "192.0.2.9", 2000, b"anything"))
        assert loaded.program.outcomes()[1:] == [1, 1, 1]
        (ban,) = loaded.program.bans()
        assert (ban.packets, ban.bytes) == (2, 2 * len(udp(A, 1, B, 2, b"anything")))
        assert len(loaded.program.events()) == 1
        assert loaded.program.delete(ip_address(A).packed)
        assert not loaded.drops(udp(A, 1, B, 2, b"anything"))


@ENDS
def test_who_is_allowed_is_left_to_the_queue(source: str, destination: str) -> None:
    with driver(in_driver([chat()]), ban_ns=3600 * 10**9) as loaded:
        network = ip_network(f"{source}/{30 if '.' in source else 120}", strict=False)
        loaded.program.allow(network)
        assert not loaded.drops(udp(source, 1000, destination, 2000, HELLO))
        assert list(loaded.program.bans()) == []
        assert loaded.program.events() == []
        assert loaded.drops(udp(destination, 1000, source, 2000, HELLO))
        loaded.program.delete(ip_address(destination).packed)
        loaded.program.disallow(network)
        assert loaded.drops(udp(source, 1000, destination, 2000, HELLO))


def test_who_is_let_alone_gets_everything() -> None:
    with driver(in_driver([chat()]), ban_ns=3600 * 10**9) as loaded:
        loaded.program.allow(ip_network(B))
        assert loaded.drops(udp(A, 1000, B, 2000, HELLO))
        loaded.program.allow(ip_network(B), let_alone=True)
        assert not loaded.drops(udp(A, 1000, B, 2000, HELLO))
        loaded.program.delete(ip_address(A).packed)
        assert not loaded.drops(udp(A, 1000, B, 2000, HELLO))
        assert list(loaded.program.bans()) == []


def test_without_a_duration_signatures_drop_nothing() -> None:
    with driver(in_driver([chat()]), ban_ns=0) as loaded:
        assert not loaded.drops(udp(A, 1000, B, 2000, HELLO))
        assert list(loaded.program.bans()) == []


def test_no_ban_without_an_event_when_nobody_listens() -> None:
    source = sources()
    with driver(in_driver([chat()]), ban_ns=3600 * 10**9) as loaded:
        dropped = 0
        while loaded.drops(udp(next(source), 1000, B, 2000, HELLO)):
            dropped += 1
        # The map has room for all that can wait, beside the bans it was built for.
        assert 1000 < dropped == len(list(loaded.program.bans())) == len(loaded.program.events())
        assert loaded.drops(udp(next(source), 1000, B, 2000, HELLO)), "there is room again"


# --- refusals


def _raw(name: str, condition: str) -> DriverSignature:
    return DriverSignature(
        name, 1, Then.model_validate({"action": "block"}), "udp_packet", condition
    )


def test_what_the_kernel_refuses_is_left_out_and_named() -> None:
    good = in_driver([chat()])
    unchecked, broken = (
        _raw("example.unchecked", "payload[100] == 1"),
        _raw("example.broken", "nothing"),
    )
    built, refused = fit([unchecked, *good, broken], 1000)
    assert built.signatures == good
    assert "outside of the packet" in refused["example.unchecked"]
    assert "error: use of undeclared identifier" in refused["example.broken"]


def test_a_refusal_is_a_diagnostic(monkeypatch: pytest.MonkeyPatch) -> None:
    signature = chat()
    unchecked = replace(in_driver([signature])[0], condition="payload[100] == 1")
    monkeypatch.setattr("engine.enforce.program.in_driver", lambda _signatures: (unchecked,))
    built, (diagnostic,) = build_program([signature], capacity=1000)
    assert built.signatures == ()
    assert (diagnostic.code, diagnostic.severity) == ("S105", "warning")
    assert "does not take `example.chat`; NFQUEUE alone decides it" in diagnostic.message
    assert "outside of the packet" in diagnostic.hint
