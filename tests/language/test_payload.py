from __future__ import annotations

import pytest

from engine.language.diagnostics import MistakeError
from engine.language.payload import MAX_PAYLOAD_B, read_payload
from tests.compiler.written import fragment


@pytest.mark.parametrize(
    ("text", "payload"),
    [
        ("", b""),
        ('"abc"', b"abc"),
        (r'"\x00\r\n\t\\\"" {00 fF}', b'\0\r\n\t\\"\0\xff'),
        ('"ü"', b"\xc3\xbc"),
        ("zeros(3)", bytes(3)),
        ("zeros(0)", b""),
        ("u8(1) u16(2) u32(3) u64(4)", bytes.fromhex("01 0002 00000003 0000000000000004")),
        ("u16(1 + 0xff)", b"\x01\x00"),
        ('{41}"B"zeros(1){43}', b"AB\0C"),
    ],
)
def test_payload(text: str, payload: bytes) -> None:
    assert read_payload(fragment(text)) == payload


def test_random_bytes_are_the_same_each_time() -> None:
    first, again = (read_payload(fragment("random(20)")) for _ in range(2))
    assert len(first) == 20
    assert first == again != bytes(20)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("abc", "S012"),
        ("zero(3)", "S012"),
        ("zeros", "S014"),
        ("zeros(1, 2)", "S014"),
        ("zeros(size)", "S014"),
        ("zeros(1.5)", "S014"),
        ("zeros(-1)", "S016"),
        (f"zeros({MAX_PAYLOAD_B + 1})", "S016"),
        (f"zeros({MAX_PAYLOAD_B}) u8(0)", "S016"),
        ("u8(256)", "S016"),
        ("u16(-1)", "S016"),
        ("{41 ??}", "S010"),
        ("{41 [2] 42}", "S010"),
        ("{(41|42)}", "S010"),
        ("/abc/", "S010"),
        (r'"\q"', "S017"),
    ],
)
def test_mistake(text: str, code: str) -> None:
    with pytest.raises(MistakeError) as caught:
        read_payload(fragment(text))
    assert caught.value.diagnostic.code == code


def test_the_longest_payload() -> None:
    assert len(read_payload(fragment(f"zeros({MAX_PAYLOAD_B})"))) == MAX_PAYLOAD_B
