"""Hex dumps and captures of what was detected: readable, and never too large."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from engine.errors import InputError
from engine.service.evidence import Evidence, Exhibit
from engine.sources.capture import Capture
from tests.captures import udp

TIME_NS = 1_700_000_000_123_456_789
DATAGRAM = udp("10.0.0.1", 1, "10.0.0.2", 2, b"d1:ad2:id20:" + bytes(range(40)))


def exhibit(datagram: bytes = DATAGRAM) -> Exhibit:
    return Exhibit(TIME_NS, datagram, "a.b: udp 10.0.0.1:1 -> 10.0.0.2:2, dropped (rev 1)")


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    return tmp_path / "detections.log"


def captured(dump: Path) -> list[bytes]:
    return [datagram for _, datagram in Capture(dump.with_suffix(".pcapng"))]


def dumped(text: str) -> bytes:
    rows = re.findall(r"^[0-9a-f]{6}  (.{48}) ", text, re.MULTILINE)
    return b"".join(bytes.fromhex(row) for row in rows)


def test_both_files_hold_the_packet_and_what_is_said_of_it(dump: Path) -> None:
    evidence = Evidence(dump, 1 << 20)
    evidence.write(exhibit())
    evidence.close()
    text = dump.read_text()
    remark = exhibit().remark
    assert text.startswith(f"2023-11-14T22:13:20.123456Z {remark}\n")
    assert dumped(text) == DATAGRAM
    assert ".d1:a\n" in text
    assert " d2:id20:" in text
    assert captured(dump) == [DATAGRAM]
    assert remark.encode() in dump.with_suffix(".pcapng").read_bytes()


def test_a_packet_that_was_cut_keeps_its_length(dump: Path) -> None:
    evidence = Evidence(dump, 1 << 20)
    evidence.write(exhibit(DATAGRAM[:40]))
    evidence.close()
    data = dump.with_suffix(".pcapng").read_bytes()
    lengths = (40).to_bytes(4, "little") + len(DATAGRAM).to_bytes(4, "little")
    assert lengths in data


def test_a_restart_goes_on_where_the_last_run_ended(dump: Path) -> None:
    for _ in range(3):
        evidence = Evidence(dump, 1 << 20)
        evidence.write(exhibit())
        evidence.reopen()
        evidence.write(exhibit())
        evidence.close()
    assert captured(dump) == [DATAGRAM] * 6
    assert dump.read_text().count("(rev 1)") == 6


def test_a_capture_that_was_torn_is_put_aside(dump: Path) -> None:
    evidence = Evidence(dump, 1 << 20)
    evidence.write(exhibit())
    evidence.close()
    capture = dump.with_suffix(".pcapng")
    torn = capture.read_bytes()[:-5]
    capture.write_bytes(torn)
    evidence = Evidence(dump, 1 << 20)
    evidence.write(exhibit())
    evidence.close()
    assert captured(dump) == [DATAGRAM]
    assert capture.with_name("detections.pcapng.1").read_bytes() == torn


def test_old_evidence_gives_way(dump: Path) -> None:
    max_b = 32 << 10
    evidence = Evidence(dump, max_b)
    for _ in range(2000):
        evidence.write(exhibit())
        assert sum(file.stat().st_size for file in dump.parent.iterdir()) <= max_b
    evidence.close()
    assert {file.name for file in dump.parent.iterdir()} == {
        f"detections{suffix}{number}"
        for suffix in (".log", ".pcapng")
        for number in ("", ".1", ".2", ".3")
    }
    for file in dump.parent.glob("*.pcapng*"):
        assert {datagram for _, datagram in Capture(file)} == {DATAGRAM}


def test_a_name_that_both_files_would_bear_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"name it x\.log, for instance"):
        Evidence(tmp_path / "x.pcapng", 1 << 20)
    assert not list(tmp_path.iterdir())
