from __future__ import annotations

import random
from pathlib import Path

import pytest

from engine.compiler.database import Database
from engine.compiler.trigger import MAX_LISTED_B, find_trigger
from engine.fields import VOCABULARY
from engine.language.diagnostics import Source
from engine.language.lists import Lists
from tests.compiler import written

NAMED = '$hello = "hello world"\n$hi = "hi"\n$hey = "hey"'


def expressions(when: str) -> set[str] | None:
    trigger = find_trigger(written.normal(when), written.patterns(NAMED))
    return None if trigger is None else {e.regex for e in trigger.expressions}


def text(value: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in value.encode())


# What the payload must look like for the field to be known.
IMPLIED = VOCABULARY["bencode.q"].implied
assert IMPLIED is not None
Q = IMPLIED.regex
HELLO, HI, HEY = text("hello world"), text("hi"), text("hey")


@pytest.mark.parametrize(
    ("when", "found"),
    [
        ("$hello", {HELLO}),
        ("$hello and $hi", {HELLO}),
        ("$hello or $hi", {HELLO, HI}),
        ("$hi at 4", {rf"^.{{4}}(?:{HI})"}),
        ("$hi in 2..5", {r"^.{2,4}(?:\x68\x69)"}),
        ("$hi in 2..9", {HI}),
        ("$hi in 0..1", {rf"^(?:{HI})"}),
        ("$hi at 513", {HI}),
        ("$hi at 511", {rf"^.{{511}}(?:{HI})"}),
        ("$hi in 510..512", {rf"^.{{510,511}}(?:{HI})"}),
        ("$hi in 511..513", {HI}),
        ("any of them", {HELLO, HI, HEY}),
        ("all of them", {HELLO}),
        ("2 of them", {HELLO, HEY}),
        ("2 of ($h*)", {HELLO, HEY}),
        ("3 of them", {HELLO}),
        ("u8(0) == 0x41 and u16(16) == 1", {r"^\x41.{15}\x00\x01"}),
        ("u16le(1) == 0x4142", {r"^.{1}\x42\x41"}),
        ("0x41 == u8(2)", {r"^.{2}\x41"}),
        ('text(2, 3) == "abc" and u8(0) == 1', {r"^\x01.{1}\x61\x62\x63"}),
        ('text(1, 2) in ["ab", "cb"]', {r"^.{1}[\x61\x63]\x62"}),
        ('text(0, 2) == "abc"', set()),
        ('text(u8(0), 2) == "ab"', None),
        ('not text(0, 2) == "ab"', None),
        ("u8(0) & 0xf0 == 0x40", {r"^[\x40-\x4f]"}),
        ("u8(0) >> 4 == 2 and u8(0) & 1 == 1 and u8(0) < 0x25", {r"^[\x21\x23]"}),
        ("u8(0) in [1, 3]", {r"^[\x01\x03]"}),
        ("u16(0) in [0x0102, 0x0403]", {r"^[\x01\x04][\x02-\x03]"}),
        ("u8(1) in 2..4", {r"^.{1}[\x02-\x03]"}),
        ("10 / u8(0) == 5", {r"^\x02"}),
        ("(u8(0) == 300 or $hi) and size > 3", {HI}),
        ("u8(0) == 1 and u8(0) == 2", set()),
        ("u16(0) == 0x10000", set()),
        ("u8(0) < 0", set()),
        ("size > 4", None),
        ("not $hello", None),
        ("$hello or size > 4", None),
        ("u8(0) <= 255", None),
        ("u8(size) == 1", None),
        ("u8(0) == u8(1)", None),
        ("u8(1501) == 1", None),
        ("not u8(0) in [1]", None),
        ("u8(0) in [1, 4..6]", {r"^\x01", r"^[\x04-\x05]"}),
        ("u8(0) in [1, 4..6] and u16(1) == 7", {r"^[\x01\x04-\x05]\x00\x07"}),
        ("(u8(0) == 1 or u8(0) == 3) and u8(1) == 2", {r"^[\x01\x03]\x02"}),
        ("(u8(0) == 1 and u8(2) == 5 or u8(0) == 3) and u16(4) == 2", {r"^[\x01\x03].{3}\x00\x02"}),
        ("(u8(0) == 1 or $hello) and u8(1) == 2", {r"^.{1}\x02"}),
        ("known(u8(5))", None),
        ("known(utp.type)", {r"^[\x01\x11\x21\x31\x41].{19}"}),
        ("known(length(bencode.q))", {Q}),
        ("not known(utp.type)", None),
        ("not known(utp.type) and $hi", {HI}),
        ("bencode.q matches /^ping/", {Q}),
    ],
)
def test_trigger(when: str, found: set[str] | None) -> None:
    assert expressions(when) == found


def test_the_strongest_of_several_is_taken() -> None:
    trigger = find_trigger(written.normal("$hi and u32(4) == 7"), written.patterns(NAMED))
    assert trigger is not None
    assert {e.regex for e in trigger.expressions} == {r"^.{4}\x00\x00\x00\x07"}
    assert trigger.bits == 32


def listed(*entries: str) -> Lists:
    return Lists({"names": Source(Path("names.txt"), "\n".join(entries))})


def found_by(when: str, lists: Lists, payload: bytes) -> bool:
    trigger = find_trigger(written.normal(when), (), lists)
    assert trigger is not None
    return bool(Database(sorted(trigger.expressions, key=lambda e: e.regex)).scan(payload))


@pytest.mark.parametrize(
    ("name", "hit"),
    [
        (b"\x07tracker\x07example\x00", True),
        (b"\x01a\x01b\x07TRACKER\x07Example\x00", True),
        (b"\x02t2\x03net\x00", True),
        (b"\x08atracker\x07example\x00", False),
        (b"\x07tracker\x07example\x03com\x00", False),
        (b"\x03net\x00", False),
    ],
)
def test_a_short_list_of_names_is_looked_for_behind_the_header(name: bytes, hit: bool) -> None:
    lists = listed("tracker.example", "t2.net")
    query = b"ID\x01\x00\x00\x01" + bytes(6) + name + b"\x00\x01\x00\x01"
    assert found_by("dns.query in @names", lists, query) is hit
    assert not found_by("dns.query in @names", lists, query[4:])


@pytest.mark.parametrize(
    ("when", "entries"),
    [
        ("dns.query in @names", [f"tracker-{number}.example" for number in range(1000)]),
        ("dns.query in @names", ["a" * 64]),  # no label is so long
        ("tls.sni in @names", ["tracker.example"]),  # may be spread over records
    ],
)
def test_other_lists_are_asked_wherever_the_field_is_known(when: str, entries: list[str]) -> None:
    trigger = find_trigger(written.normal(when), (), listed(*entries))
    implied = VOCABULARY[when.split()[0]].implied
    assert trigger is not None
    assert implied is not None
    assert {e.regex for e in trigger.expressions} == {implied.regex}


def test_a_list_as_long_as_may_be_looked_for_is_not_too_large_to_compile() -> None:
    entries: list[str] = []
    while sum(map(len, entries)) <= MAX_LISTED_B - 16:
        entries.append(f"{random.Random(len(entries)).getrandbits(40):010x}.net")
    trigger = find_trigger(written.normal("dns.query in @names"), (), listed(*entries))
    assert trigger is not None
    (expression,) = trigger.expressions
    assert ".*" in expression.regex
    assert Database([expression]).size_bytes < 1 << 21
