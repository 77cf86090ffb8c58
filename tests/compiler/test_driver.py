"""Which signatures run in the driver, and why others do not; what their C says is run in
tests/enforce/test_program.py."""

from __future__ import annotations

from typing import Any

import pytest

from engine.compiler.driver import MAX_SIGNATURES, c_source, in_driver, place, placements
from tests.compiler import written

PATTERNS = r"""
$text = "abc"
$nocase = "aBc" nocase
$hex = { 61 ?? 6? [2] ( 62 | 63 64 ) }
$jump = { 61 [0-2] 62 }
$long_jump = { 61 [0-99] 62 }
$half_letter = { 4? } nocase
$regex = /a+/
"""


@pytest.mark.parametrize(
    ("when", "driver", "reasons"),
    [
        ("$text at 0", "whole", ()),
        ("not $text at 0", "whole", ()),
        ("$nocase at 3 and $hex at 9", "whole", ()),
        ("$jump at 0", "whole", ()),
        ("$text in 0..16", "whole", ()),
        ("2 of ($text, $nocase, $hex) at 0", "whole", ()),
        ("u8(0) & 0x0f == 1 and u16le(4) in [1, 2] and not size in 20..30", "whole", ()),
        ("size == u16(2) + 4 and size - 8 > u8(3) and u64(8) == 0xffffffffffffffff", "whole", ()),
        ('text(4, 3) == "abc" or text(0, 2) in ["ab", "cd"]', "whole", ()),
        ('text(u8(0), 3) == "abc"', "none", ("text at a computed offset",)),
        ('text(0, 3) icontains "a"', "none", ("a computed value",)),
        ("dst.port == 53 or src.port != 53", "whole", ()),
        ("dst.port in [53, 80..90] and not known(u32(100))", "whole", ()),
        ("known(bencode.y)", "none", ("bencode.y",)),
        ("$text at 2046", "none", ("$text beyond byte 2048",)),
        ("u32(2045) == 1", "none", ("u32 beyond byte 2048",)),
        ("$text", "none", ("$text anywhere",)),
        ("$text in 0..64", "none", ("$text in 0..64",)),
        ("$text at u8(0)", "none", ("$text at a computed place",)),
        ("$regex at 0", "none", ("$regex is a regular expression",)),
        ("$long_jump at 0", "none", ("$long_jump has too many forms",)),
        ("$half_letter at 0", "none", ("$half_letter is half a letter",)),
        ("u8(u8(0)) == 1", "none", ("u8 at a computed offset",)),
        ("u8(0) << u8(1) == 1", "none", ("`<<` by what is not constant",)),
        ("u64(0) - 1 == 1", "none", ("numbers of more than 64 bits",)),
        ("u64(0) + u64(8) == 1", "none", ("numbers of more than 64 bits",)),
        ("(size - 8) & 3 == 1", "none", ("`&` of what may be negative",)),
        ("src.ip in 10.0.0.0/8", "none", ("src.ip",)),
        ("count($text) > 1", "none", ("count($text)",)),
        ('bencode.y == "q"', "none", ("bencode.y",)),
        ("utp.type == 4 and u8(0) == 0x41", "none", ("utp.type",)),
        ("not utp.type == 4", "none", ("utp.type",)),
        ("size in [1, 2, u8(0)] and $text at 0", "whole", ()),
        # What is left of an `or` can still be decided; what is left of an `and` cannot.
        ("$text at 0 or $regex", "part", ("$regex anywhere",)),
        ("$text at 0 and (size > 9 or flow.packets == 1)", "part", ("flow.packets",)),
        ("any of ($text, $regex) at 0", "part", ("$regex is a regular expression",)),
        ("not (size > 9 and utp.type == 4)", "part", ("utp.type",)),
        # Never true.
        ("size < 0", "none", ()),
        ("u8(-1) == 0", "none", ()),
    ],
)
def test_what_a_condition_needs_says_where_it_runs(
    when: str, driver: str, reasons: tuple[str, ...]
) -> None:
    placement = place(written.signature(when, PATTERNS))
    assert (placement.driver, placement.reasons) == (driver, reasons)
    assert (placement.signature is None) == (driver == "none")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"then": {"action": "drop"}}, "action: drop"),
        ({"then": {"action": "log"}}, "action: log"),
        (
            {"then": {"action": "block", "threshold": {"count": 2, "per": "src", "within": "9s"}}},
            "threshold",
        ),
        ({"then": {"action": "block", "ban": {"of": "both"}}}, "ban: {of: both}"),
        ({"enabled": False}, "enabled: false"),
        ({"inspect": "flow"}, "inspect: flow"),
        ({"transport": "tcp", "inspect": "middle"}, "inspect: middle"),
    ],
)
def test_what_takes_more_than_one_packet_stays_with_the_queue(
    options: dict[str, Any], reason: str
) -> None:
    placement = place(written.signature("size == 1", **options))
    assert (placement.driver, placement.reasons) == ("none", (reason,))
    assert str(placement) == f"cannot: {reason}"


def test_the_driver_takes_only_so_many() -> None:
    signatures = [
        written.signature(f"size == {number}", name=f"a.s{number}")
        for number in range(MAX_SIGNATURES + 2)
    ]
    placed = placements([written.signature("$text", PATTERNS), *signatures])
    assert [p.driver for p in placed] == ["none", *["whole"] * MAX_SIGNATURES, "none", "none"]
    assert placed[-1].reasons == (f"the driver has {MAX_SIGNATURES} others",)
    assert [s.id for s in in_driver(signatures)] == [s.id for s in signatures[:MAX_SIGNATURES]]


def test_the_source_names_each_kind_of_payload_and_no_word_of_the_author() -> None:
    signatures = in_driver(
        [
            written.signature("$a at 0", '$a = "*/ evil()"', name="a.one"),
            written.signature("size == 1", name="a.two", transport="tcp", inspect="stream"),
        ]
    )
    source = c_source(signatures)
    assert "#define HAVE_UDP_PACKET 1" in source
    assert "#define HAVE_TCP_PACKET 0" in source
    assert "#define HAVE_TCP_STREAM 1" in source
    assert "evil" not in source
    assert "#define PROGRAM 0u" in c_source(())
    assert c_source(signatures) != c_source(signatures[:1])
