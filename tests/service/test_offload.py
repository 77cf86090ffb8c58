"""Connections left to the kernel: what passes or is dropped there without the queue."""

from __future__ import annotations

import contextlib
import shlex
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.enforce.connmark import MarkBits
from tests.service.commands import btblocker
from tests.service.traffic import ARRIVAL_S, INNOCENT
from tools.lab.addresses import Family
from tools.lab.blocker import Blocker, run_blocker
from tools.lab.namespace import call_in
from tools.lab.program import wait_until
from tools.lab.topology import Topology

pytestmark = pytest.mark.lab

ON_THE_QUEUE_ALONE = ("--xdp-mode", "off")
BITS = MarkBits.of(0x70000000)
OPERATORS = 0x5
MEGABYTE = bytes(1 << 20)
REQUEST = b"GET /file HTTP/1.1\r\nHost: example.com\r\n\r\n"
ANNOUNCE = (
    b"GET /announce?info_hash=aaaaaaaaaaaaaaaaaaaa&peer_id=-AB1234-aaaaaaaaaaaa&port=6881"
    b"&uploaded=0&downloaded=0&left=1 HTTP/1.1\r\nHost: example.com\r\n\r\n"
)
# It wants to see every segment.
EVERYWHERE = """
id: test.everywhere
title: Anywhere in a segment
scope: {transport: tcp, inspect: packet}
patterns: |
  $telling = "a telling word"
when: |
  $telling
then: {action: drop}
tests:
  - {expect: match, payload: '"here is a telling word"'}
  - {expect: no match, payload: '"here is none"'}
"""


class Connection:
    """A TCP connection from the client to the server through the router."""

    def __init__(self, topology: Topology, family: Family = 4) -> None:
        kind = socket.AF_INET if family == 4 else socket.AF_INET6
        address = topology.server_address(family)
        with call_in(topology.server.name, lambda: socket.socket(kind)) as listener:
            listener.bind((address, 0))
            listener.listen()
            self.client = call_in(topology.client.name, lambda: socket.socket(kind))
            self.client.settimeout(ARRIVAL_S)
            self.client.connect((address, listener.getsockname()[1]))
            self.server, _ = listener.accept()
            self.server.settimeout(ARRIVAL_S)
        self.port = self.client.getsockname()[1]

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.server.close()

    def ask(self, words: bytes) -> bool:
        """From client to server; whether it arrives."""
        self.client.sendall(words)
        return _read(self.server, len(words)) == words

    def answer(self, data: bytes) -> bool:
        """From server to client; whether it arrives."""
        for start in range(0, len(data), 65536):
            piece = data[start : start + 65536]
            try:
                self.server.sendall(piece)
            except TimeoutError:
                return False
            if _read(self.client, len(piece)) != piece:
                return False
        return True

    def mark(self, blocker: Blocker) -> int:
        """Of the connection in the router's kernel; 0 where it is not known there."""
        table = Path(f"/proc/{blocker.program.process.pid}/net/nf_conntrack").read_text()
        for line in table.splitlines():
            words = line.split()
            if f"sport={self.port}" in words:
                return next(int(word[5:]) for word in words if word.startswith("mark="))
        return 0


def _read(from_: socket.socket, length: int) -> bytes:
    got = b""
    with contextlib.suppress(TimeoutError):
        while len(got) < length and (data := from_.recv(length - len(got))):
            got += data
    return got


def queued(blocker: Blocker) -> int:
    """Packets that the queue has had."""
    return blocker.kernel_queue()[0][7]


@contextlib.contextmanager
def released(
    topology: Topology, blocker: Blocker, family: Family = 4, words: bytes = REQUEST
) -> Iterator[Connection]:
    """A connection with a download that goes by."""
    with Connection(topology, family) as connection:
        assert connection.ask(words)
        for _ in range(16):
            assert connection.answer(MEGABYTE)
            if connection.mark(blocker) & BITS.reply:
                break
        assert connection.mark(blocker) & BITS.mask == BITS.reply
        yield connection


def drops(topology: Topology) -> int:
    """Packets that the rule for refused connections has dropped."""
    rules = topology.router.run(["iptables", "-t", "mangle", "-nvxL", "BTBLOCKER-0-MARKED"]).stdout
    return next(int(line.split()[0]) for line in rules.splitlines() if " DROP " in line)


@pytest.mark.parametrize("family", [4, 6])
def test_a_download_goes_by_and_what_its_client_says_does_not(
    topology: Topology, family: Family
) -> None:
    command = "iptables" if family == 4 else "ip6tables"
    saves = "-t mangle -A PREROUTING -j CONNMARK --set-xmark 0x5/0xff"
    topology.router.run([command, *shlex.split(saves)])
    with (
        run_blocker(topology, *ON_THE_QUEUE_ALONE) as blocker,
        released(topology, blocker, family) as connection,
    ):
        before = queued(blocker)
        assert connection.answer(MEGABYTE * 4)
        assert queued(blocker) == before
        assert connection.mark(blocker) == BITS.reply | OPERATORS
        assert blocker.status()["queue"]["released"]
        assert connection.ask(REQUEST)
        assert queued(blocker) > before, "requests are inspected still"

        assert not connection.ask(ANNOUNCE)
        assert [d.signature for d in blocker.detections()] == ["bittorrent.tracker.http.announce"]
        assert connection.mark(blocker) == BITS.refused | OPERATORS
        before = queued(blocker)
        assert not connection.answer(INNOCENT)
        assert queued(blocker) == before
        assert blocker.status()["queue"]["refused"]
        if family == 4:
            assert drops(topology)
    mangle = topology.router.run([command, "-t", "mangle", "-S"]).stdout
    assert "BTBLOCKER" not in mangle
    table = topology.router.run(["cat", "/proc/net/nf_conntrack"]).stdout
    assert f"mark={OPERATORS} " in table
    assert f"mark={BITS.refused | OPERATORS} " not in table


def test_signatures_that_want_every_segment_get_them_after_a_reload(
    topology: Topology, tmp_path: Path
) -> None:
    file = tmp_path / "one.yaml"
    file.write_text(EVERYWHERE.replace(", inspect: packet", ""))
    options = ("--signatures", str(tmp_path), *ON_THE_QUEUE_ALONE)
    with (
        run_blocker(topology, *options) as blocker,
        released(topology, blocker) as connection,
    ):
        file.write_text(EVERYWHERE)
        blocker.reload()
        wait_until(lambda: not connection.mark(blocker), 20, "it is inspected again")
        assert connection.answer(MEGABYTE)
        assert not connection.mark(blocker)
        assert not connection.answer(b"now comes a telling word")
        wait_until(lambda: bool(blocker.detections()), 5, "detected")


def test_bans_end_what_goes_by_and_allowing_revives_what_is_refused(topology: Topology) -> None:
    client = topology.client_address(4)
    with (
        run_blocker(topology, *ON_THE_QUEUE_ALONE) as blocker,
        released(topology, blocker) as connection,
    ):
        btblocker(topology, "ban", client)
        wait_until(lambda: not connection.mark(blocker), 5, "taken back")
        assert not connection.answer(INNOCENT)
        btblocker(topology, "unban", client)
        wait_until(lambda: bool(_read(connection.client, 1)), 10, "sent again, and arrived")

        assert not connection.ask(ANNOUNCE)
        assert connection.mark(blocker) == BITS.refused
        btblocker(topology, "unban", client)
        time.sleep(ARRIVAL_S)
        assert connection.mark(blocker) == BITS.refused, "the connection that told stays so"
        btblocker(topology, "allow", client)
        wait_until(lambda: not connection.mark(blocker), 5, "taken back")
        wait_until(lambda: bool(_read(connection.server, 1)), 10, "what was sent again arrives")


def test_both_ends_are_told_where_it_is_wanted(topology: Topology) -> None:
    with (
        run_blocker(topology, "--reset", *ON_THE_QUEUE_ALONE, "--ban", "none") as blocker,
        Connection(topology) as connection,
    ):
        assert "REJECT" in topology.router.run(["iptables", "-S"]).stdout
        connection.client.sendall(ANNOUNCE)
        wait_until(lambda: connection.mark(blocker) == BITS.refused, 5, "refused")
        connection.client.settimeout(5)
        with pytest.raises(ConnectionResetError):
            connection.client.recv(1)
        connection.server.sendall(INNOCENT)
        with pytest.raises(ConnectionResetError):
            connection.server.recv(1)
    assert "BTBLOCKER" not in topology.router.run(["iptables", "-S"]).stdout


def test_without_offload_all_is_inspected(topology: Topology) -> None:
    with (
        run_blocker(topology, "--no-offload", *ON_THE_QUEUE_ALONE) as blocker,
        Connection(topology) as connection,
    ):
        assert connection.ask(REQUEST)
        assert connection.answer(MEGABYTE * 4)
        assert connection.mark(blocker) == 0
        before = queued(blocker)
        assert connection.answer(MEGABYTE)
        assert queued(blocker) > before
