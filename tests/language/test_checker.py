from __future__ import annotations

import pytest

from tests.compiler.written import checked

NAMED = '$a = "aaaa"\n$b = "bbbb"\n$b2 = "cccc"'


@pytest.mark.parametrize(
    "when",
    [
        "2 of ($a, $b*) and $a at 1 + 2 * 4",
        "all of them in 1 << 4..32",
        "any of ($*)",
        "any of them and size in 0..u8(0)",
        "any of them and entropy(0, size) in 0.5..8",
        "any of them and src.ip in 10.0.0.0/8",
        'any of them and bencode.q in ["a", "b"] and length(bencode.q) == 1',
        "any of them and u8(0) in [1 + 1, -1, 0x10]",
        "any of them and entropy(0, 4) > 6",
        "any of them and size in [1, 4..8, 2 + 1] and entropy(0, 4) in [1.5, 2..8]",
        "any of them and src.ip in [10.0.0.0/8, ::1] and size not in [1, 2..u8(3)]",
        "any of them and known(u8(0)) and known(1 / size) and known(length(bencode.q))",
        "any of them and known(dns.response) and known(count($a in 0..u8(0)))",
        "any of them and bencode.q matches /^a/ and not bencode.q imatches /b$/",
    ],
)
def test_right(when: str) -> None:
    assert checked(when, NAMED) == []


@pytest.mark.parametrize(
    ("when", "codes"),
    [
        ("any of them and $c", ["S011"]),
        ("any of ($c*) or any of them", ["S011"]),
        ("any of them and sise == 1", ["S012"]),
        ("any of them and u8() == u16(1, 2)", ["S014", "S014"]),
        ("any of them and size", ["S013"]),
        ("any of them and not 1", ["S013"]),
        ('any of them and size == "1"', ["S013"]),
        ('any of them and size + "1" == 1', ["S013"]),
        ("any of them and entropy(0, 1) + 1 == 1", ["S013"]),
        ("any of them and entropy(0.5, 1) == 1", ["S013"]),
        ('any of them and bencode.q < "a"', ["S013"]),
        ("any of them and src.ip == dst.ip", ["S013"]),
        ("any of them and ($a) == ($b)", ["S013"]),
        ("any of them and ($a in 0..1) in 0..2", ["S013"]),
        ("any of them and src.ip in 1..2", ["S013"]),
        ("any of them and size in 10.0.0.0/8", ["S013"]),
        ('any of them and size in [1, "2"]', ["S013"]),
        ("any of them and size in [1, size]", ["S015"]),
        ("any of them and size in [1, 1 / 0]", ["S015"]),
        ("any of them and size in 4..4", ["S016"]),
        ("any of them at bencode.y", ["S013"]),
        ("any of them at 1.5", ["S013"]),
        ("any of them at -1", ["S016"]),
        ("any of them in 0..40000", ["S016"]),
        ("any of them and size in [1, 5..4]", ["S016"]),
        ("any of them and size in [2 - 3]", ["S016"]),
        ("any of them and size in [::1, 2]", ["S013"]),
        ("any of them and src.ip in [::1, 2..3]", ["S013"]),
        ("any of them and known(size + 1)", ["S027"]),
        ("any of them and known(size / 2 << 3)", ["S027"]),
        ("any of them and known(count($a))", ["S027"]),
        ("any of them and known(known(u8(0)))", ["S013"]),
        ("any of them and known($a)", ["S013"]),
        ("any of them and known(u8(0) == 1)", ["S013"]),
        ("any of them and known(nothing)", ["S012"]),
        ("any of them and size matches /a/", ["S013"]),
        ("any of them and true", ["S012"]),
        ("4 of them", ["S016"]),
        ("0 of them", ["S016"]),
        ("3 of ($b*) or any of them", ["S016"]),
        ("$a or $b", ["S101"]),
    ],
)
def test_wrong(when: str, codes: list[str]) -> None:
    assert [d.code for d in checked(when, NAMED)] == codes


def test_fields_are_for_their_transport() -> None:
    assert checked("utp.type == 0") == []
    assert [d.code for d in checked("utp.type == 0", transport="tcp")] == ["S012"]


def test_nesting_costs_no_more_than_its_length() -> None:
    depth = 50
    mistakes = checked("(" * depth + "size" + " in 1..2)" * depth)
    assert len(mistakes) == depth - 1  # each but the innermost asks for a truth value's place
