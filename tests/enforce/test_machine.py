"""What a machine's addresses, gateways and resolvers are read from, in namespaces of their own."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.enforce import machine as module
from engine.enforce.machine import Machine, default_routes, read_machine
from engine.enforce.target import parse_target
from tests.netns import Namespace


def targets(*texts: str) -> frozenset[bytes]:
    return frozenset(map(parse_target, texts))


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    with Namespace("machine") as made:
        made.run(["ip", "link", "add", "one", "type", "veth", "peer", "name", "two"])
        for name in ("one", "two"):
            made.run(["ip", "link", "set", name, "up"])
        yield made


@pytest.mark.lab
def test_addresses_and_gateways_of_every_kind(namespace: Namespace) -> None:
    namespace.add_address("one", "10.1.0.2/24")
    namespace.add_address("two", "10.2.0.2/24")
    namespace.add_address("one", "2001:db8:1::2/64")
    for route in (
        "default via 10.1.0.1 metric 10",
        "default via inet6 2001:db8:1::7 dev one metric 20",
        "default via 10.2.0.1 table 77",
        "default metric 30 nexthop via 10.1.0.3 nexthop via 10.2.0.3",
        "unreachable default metric 4000",
        "10.9.0.0/16 via 10.1.0.9",
        "-6 default via 2001:db8:1::1",
        "-6 unreachable default metric 4000",
    ):
        version = ["-6"] if route.startswith("-6") else ["-4"]
        words = route.removeprefix("-6 ").split()
        namespace.run(["ip", *version, "route", "add", *words])
    machine = namespace.call(read_machine)
    assert machine.own >= targets("127.0.0.1", "::1", "10.1.0.2", "10.2.0.2", "2001:db8:1::2")
    assert machine.gateways == targets(
        *("10.1.0.1", "2001:db8:1::7", "10.2.0.1", "10.1.0.3", "10.2.0.3", "2001:db8:1::1")
    )
    routes = namespace.call(default_routes)
    assert {route["dev"] for route in routes if "dev" in route} == {"one", "two"}


@pytest.mark.lab
def test_a_machine_without_routes(namespace: Namespace) -> None:
    assert namespace.call(read_machine).gateways == frozenset()


def test_resolvers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plain, upstream = tmp_path / "resolv.conf", tmp_path / "upstream.conf"
    monkeypatch.setattr(module, "_RESOLVER_FILES", (plain, upstream, tmp_path / "missing"))
    plain.write_text("# nameserver 1.1.1.1\nsearch lan\nnameserver 127.0.0.53\nnameserver\n")
    upstream.write_text("nameserver 192.0.2.53\nnameserver fe80::53%eth0\nnameserver dns\n")
    assert read_machine().resolvers == targets("127.0.0.53", "192.0.2.53", "fe80::53")
    assert "'dns' is no address" in caplog.text


def test_what_cannot_be_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_RESOLVER_FILES", (tmp_path,))
    monkeypatch.setenv("PATH", str(tmp_path))
    with caplog.at_level(logging.WARNING):
        assert read_machine() == Machine()
    assert "cannot read the resolvers" in caplog.text
    assert caplog.text.count("cannot read addresses and routes") == 2


def test_roles() -> None:
    one, two, three = targets("10.0.0.1"), targets("10.0.0.2"), targets("10.0.0.3")
    machine = Machine(one, two, three)
    assert machine.addresses == one | two | three
    assert machine.role(parse_target("10.0.0.4")) == ""
