from __future__ import annotations

import pytest

from engine.compiler.trigger import find_trigger
from tests.compiler import written

NAMED = '$hello = "hello world"\n$hi = "hi"\n$hey = "hey"'


def expressions(when: str) -> set[str] | None:
    trigger = find_trigger(written.normal(when), written.patterns(NAMED))
    return None if trigger is None else {e.regex for e in trigger.expressions}


def text(value: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in value.encode())


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
        ("any of them", {HELLO, HI, HEY}),
        ("all of them", {HELLO}),
        ("2 of them", {HELLO, HEY}),
        ("2 of ($h*)", {HELLO, HEY}),
        ("3 of them", {HELLO}),
        ("u8(0) == 0x41 and u16(16) == 1", {r"^\x41.{15}\x00\x01"}),
        ("u16le(1) == 0x4142", {r"^.{1}\x42\x41"}),
        ("0x41 == u8(2)", {r"^.{2}\x41"}),
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
        ("known(length(bencode.q))", {r"^d.*1:q[0-9]"}),
        ("not known(utp.type)", None),
        ("not known(utp.type) and $hi", {HI}),
        ("bencode.q matches /^ping/", {r"^d.*1:q[0-9]"}),
    ],
)
def test_trigger(when: str, found: set[str] | None) -> None:
    assert expressions(when) == found


def test_the_strongest_of_several_is_taken() -> None:
    trigger = find_trigger(written.normal("$hi and u32(4) == 7"), written.patterns(NAMED))
    assert trigger is not None
    assert {e.regex for e in trigger.expressions} == {r"^.{4}\x00\x00\x00\x07"}
    assert trigger.bits == 32
