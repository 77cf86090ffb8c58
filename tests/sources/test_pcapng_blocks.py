from __future__ import annotations

import io
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.sources.capture import Capture
from engine.sources.pcapng_blocks import ends_whole, packet, section
from tests.captures import tcp, udp

DATAGRAMS = (
    udp("10.0.0.1", 1, "10.0.0.2", 2, b"odd"),
    tcp("2001:db8::1", 1, "2001:db8::2", 2, b"even"),
)
TIME_NS = 1_700_000_000_123_456_789


@given(st.lists(st.tuples(st.binary(max_size=40), st.text(max_size=40)), max_size=4))
def test_what_is_written_is_read_back(packets: list[tuple[bytes, str]]) -> None:
    datagrams = [udp("10.0.0.1", 1, "10.0.0.2", 2, payload) for payload, _ in packets]
    blocks = [
        packet(datagram, len(datagram), TIME_NS, comment)
        for datagram, (_, comment) in zip(datagrams, packets, strict=True)
    ]
    assert [datagram for _, datagram in read(section("a test") + b"".join(blocks))] == datagrams


def read(data: bytes) -> list[tuple[float, bytes]]:
    with tempfile.NamedTemporaryFile(suffix=".pcapng") as file:
        file.write(data)
        file.flush()
        return list(Capture(Path(file.name)))


def test_times_and_both_ip_versions() -> None:
    data = section("a test") + b"".join(packet(d, len(d), TIME_NS, "x") for d in DATAGRAMS)
    assert read(data) == [(pytest.approx(TIME_NS / 1e9), datagram) for datagram in DATAGRAMS]


def test_a_section_may_follow_another() -> None:
    data = section("a test") + packet(DATAGRAMS[0], len(DATAGRAMS[0]), TIME_NS, "")
    assert [datagram for _, datagram in read(data + data)] == [DATAGRAMS[0]] * 2


def test_another_program_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    path.write_bytes(section("a test") + packet(DATAGRAMS[0], 1500, TIME_NS, "a comment"))
    done = subprocess.run(
        ["tcpdump", "-nn", "-tt", "-r", str(path)], capture_output=True, text=True, check=True
    )
    assert "1700000000.123456" in done.stdout
    assert "10.0.0.1.1 > 10.0.0.2.2: UDP, length 3" in done.stdout


@pytest.mark.parametrize("cut", range(0, 60, 7))
def test_a_torn_end_is_seen(cut: int) -> None:
    data = section("a test") + packet(DATAGRAMS[0], len(DATAGRAMS[0]), TIME_NS, "a comment")
    assert ends_whole(io.BytesIO(data[: len(data) - cut])) is (cut == 0)


def test_nothing_is_whole_and_zeros_are_not() -> None:
    assert ends_whole(io.BytesIO(b""))
    assert not ends_whole(io.BytesIO(section("a test") + bytes(4096)))
    assert not ends_whole(io.BytesIO(b"\xff" * 100))
