from __future__ import annotations

import gzip
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InputError
from engine.sources import capture
from engine.sources.capture import MAX_FRAME_B, Capture
from tests.captures import (
    RAW,
    block,
    enhanced,
    ethernet,
    interface,
    option,
    pcap,
    section,
    tcp,
    udp,
)

ONE = udp("10.0.0.1", 1111, "10.0.0.2", 53, b"one")
TWO = tcp("fd00::1", 2222, "fd00::2", 80, b"two")
ARP = b"\xff" * 6 + b"\x02\0\0\0\0\x01\x08\x06" + bytes(28)


def read(path: Path, content: bytes) -> list[tuple[float, bytes]]:
    path.write_bytes(content)
    return list(Capture(path))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "some.pcap"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("nanoseconds", "unit_s"), [(False, 1e-6), (True, 1e-9)])
def test_pcap(file: Path, order: str, nanoseconds: bool, unit_s: float) -> None:
    content = pcap([ethernet(ONE), ethernet(TWO)], order=order, nanoseconds=nanoseconds)
    assert read(file, content) == [(1000.0, ONE), (1000 + unit_s, TWO)]


def test_pcap_without_packets_is_fine(file: Path) -> None:
    assert read(file, pcap([])) == []


def test_upper_bits_of_the_link_type_are_not_part_of_it(file: Path) -> None:
    assert read(file, pcap([ethernet(ONE)], link_type=0x2400_0001)) == [(1000.0, ONE)]


def test_frame_longer_than_the_header_promises(file: Path) -> None:
    assert read(file, pcap([ethernet(ONE)], snaplen=4)) == [(1000.0, ONE)]


def test_gzip(file: Path) -> None:
    assert read(file, gzip.compress(pcap([ethernet(ONE)]))) == [(1000.0, ONE)]


def test_truncated_gzip(file: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        read(file, gzip.compress(pcap([ethernet(ONE)]))[:-12])


def test_frames_without_ip_are_counted(file: Path) -> None:
    file.write_bytes(pcap([ARP, ethernet(ONE), ethernet(ONE)[:20], ARP]))
    source = Capture(file)
    assert [datagram for _, datagram in source] == [ONE]
    assert source.skipped == {"no IP inside": 2, "cut short": 1}


def test_padding_behind_the_datagram_is_cut_off(file: Path) -> None:
    assert read(file, pcap([ethernet(ONE) + bytes(18), ethernet(TWO) + bytes(4)])) == [
        (1000.0, ONE),
        (1000.000001, TWO),
    ]


def test_datagram_that_the_capture_cut(file: Path) -> None:
    assert read(file, pcap([ethernet(ONE)[:-2]])) == [(1000.0, ONE[:-2])]


def test_records_across_the_edges_of_what_is_read_at_once(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [ethernet(ONE), ethernet(TWO)] * 5
    for content in (
        pcap(frames),
        section() + interface() + b"".join(enhanced(frame) for frame in frames),
    ):
        for chunk_b in (1, 7, 16, 61, 300):
            monkeypatch.setattr(capture, "_CHUNK_B", chunk_b)
            assert [datagram for _, datagram in read(file, content)] == [ONE, TWO] * 5


@pytest.mark.parametrize("order", ["<", ">"])
def test_pcapng_interfaces_differ(file: Path, order: str) -> None:
    content = (
        section(order)
        + interface(order=order)
        + interface(RAW, option(9, b"\x09", order), order)
        + interface(RAW, option(9, b"\x8a", order) + option(14, b"\0" * 8, order), order)
        + enhanced(ethernet(ONE), 5_000_000, 0, order)
        + enhanced(TWO, 5 * 10**9 + 1, 1, order)
        + enhanced(TWO, 5 << 10, 2, order)
    )
    assert read(file, content) == [
        (pytest.approx(5), ONE),
        (pytest.approx(5.000000001), TWO),
        (pytest.approx(5), TWO),
    ]


def test_pcapng_time_offset(file: Path) -> None:
    offset = option(14, struct.pack("<q", -100))
    content = section() + interface(options=offset) + enhanced(ethernet(ONE), 1_000_000_000)
    assert read(file, content) == [(pytest.approx(900), ONE)]


def test_pcapng_sections_have_their_own_interfaces_and_byte_order(file: Path) -> None:
    content = (
        section("<")
        + interface()
        + enhanced(ethernet(ONE))
        + section(">")
        + interface(RAW, order=">")
        + enhanced(TWO, order=">")
    )
    assert [datagram for _, datagram in read(file, content)] == [ONE, TWO]


def test_pcapng_simple_and_obsolete_packet_blocks(file: Path) -> None:
    frame = ethernet(ONE)
    simple = block(3, struct.pack("<I", len(frame)) + frame)
    obsolete = block(2, struct.pack("<HHIIII", 0, 7, 0, 9, len(frame), len(frame)) + frame)
    assert read(file, section() + interface() + obsolete + simple) == [
        (pytest.approx(9e-6), ONE),
        (pytest.approx(9e-6), ONE),
    ]


def test_pcapng_simple_packet_is_cut_at_the_snaplen(file: Path) -> None:
    simple = block(3, struct.pack("<I", 1500) + ethernet(ONE)[:36])
    assert read(file, section() + interface(snaplen=36) + simple) == [(0.0, ONE[:22])]


def test_pcapng_other_blocks_are_passed_over(file: Path) -> None:
    others = block(5, bytes(12)) + block(0xBAD, b"private" * 9)
    content = section() + others + interface() + others + enhanced(ethernet(ONE))
    assert [datagram for _, datagram in read(file, content)] == [ONE]


BAD = {
    "empty": (b"", "the file is empty"),
    "text": (b"<html>not a capture", "begins with 3c 68 74 6d"),
    "short header": (pcap([])[:20], "ends inside the file header"),
    "old version": (pcap([]).replace(b"\2\0\4\0", b"\2\0\2\0"), "version 2.2"),
    "cut record header": (pcap([ethernet(ONE)])[:30], "the record that starts at byte 24"),
    "cut record": (pcap([ethernet(ONE)])[:-1], "the record that starts at byte 24"),
    "huge frame": (
        pcap([]) + struct.pack("<IIII", 0, 0, MAX_FRAME_B + 1, 60),
        "byte 24: a frame of 262145 bytes",
    ),
    "no byte-order mark": (section()[:8] + bytes(20), "without a byte-order mark"),
    "pcapng version": (section().replace(b"\1\0\0\0", b"\2\0\0\0"), "version 2.0"),
    "cut block": (section() + interface()[:-3], "the block that starts at byte 28"),
    "cut section": (section()[:20], "the block that starts at byte 0"),
    "short section": (
        block(0x0A0D0D0A, struct.pack("<I", 0x1A2B3C4D)) + interface(),
        "a section header of 16 bytes",
    ),
    "short block": (section() + struct.pack("<III", 5, 8, 8), "byte 28: a block of 8 bytes"),
    "crooked block": (section() + struct.pack("<III", 5, 13, 13), "a block of 13 bytes"),
    "huge block": (section() + struct.pack("<III", 5, 1 << 30, 0), "a block of 1073741824"),
    "two lengths": (section() + interface()[:-4] + bytes(4), "two lengths differ"),
    "short interface": (section() + block(1, bytes(4)), "interface description"),
    "no interface": (section() + enhanced(b""), "interface 0, where 0 are described"),
    "short packet": (section() + interface() + block(6, bytes(8)), "a packet block of 20"),
    "frame beyond its block": (
        section() + interface() + block(6, struct.pack("<IIIII", 0, 0, 0, 9, 9)),
        "a frame of 9 bytes in a block of 32",
    ),
    "simple without interface": (section() + block(3, bytes(4)), "interface 0"),
    "short simple": (section() + block(3, b""), "without a length"),
    "simple beyond its block": (
        section() + interface() + block(3, struct.pack("<I", 9)),
        "a frame of 9 bytes in a block of 16",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_capture(file: Path, case: str) -> None:
    content, message = BAD[case]
    with pytest.raises(InputError, match=message) as caught:
        read(file, content)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)


def test_what_comes_before_the_damage_is_there(file: Path) -> None:
    file.write_bytes(pcap([ethernet(ONE), ethernet(TWO)])[:-1])
    got = []
    with pytest.raises(InputError):
        got.extend(Capture(file))
    assert [datagram for _, datagram in got] == [ONE]


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        list(Capture(tmp_path / "missing"))
    with pytest.raises(InputError, match="Is a directory"):
        list(Capture(tmp_path))


GOOD = pcap([ethernet(ONE), ARP, ethernet(TWO)])
GOOD_NG = (
    section() + interface(options=option(9, b"\x09")) + enhanced(ethernet(ONE)) + enhanced(ARP)
)


@given(
    base=st.sampled_from([b"", GOOD, GOOD_NG, GOOD_NG[:28], gzip.compress(GOOD)]),
    at=st.integers(0, 200),
    damage=st.binary(max_size=40),
    keep=st.integers(0, 300),
)
def test_any_bytes(
    tmp_path_factory: pytest.TempPathFactory, base: bytes, at: int, damage: bytes, keep: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.pcap"
    content = base[:at] + damage + base[at + len(damage) :][:keep]
    try:
        frames = read(path, content)
    except InputError as err:
        assert str(path) in str(err)
    else:
        assert all(isinstance(datagram, bytes) for _, datagram in frames)
