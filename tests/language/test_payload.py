from __future__ import annotations

import pytest

from engine.language.diagnostics import MistakeError
from engine.language.payload import MAX_PAYLOAD_B, Payloads
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
        ("u16le(1) u32le(2) u64le(3)", bytes.fromhex("0100 02000000 0300000000000000")),
        ('repeat(3, "ab")', b"ababab"),
        ('repeat(2, "a" {00} u16(1) repeat(2, "b"))', b"a\0\0\1bb" * 2),
        ('repeat(0, "a") repeat(9, "")', b""),
        ("repeat(1 + 1, {41})", b"AA"),
    ],
)
def test_payload(text: str, payload: bytes) -> None:
    assert Payloads().read(fragment(text)) == payload


def halves(*texts: str) -> tuple[bytes, bytes]:
    """The payloads of one test, of 20 bytes twice in all."""
    payloads = Payloads()
    payload = b"".join(payloads.read(fragment(text)) for text in texts)
    assert len(payload) == 40
    return payload[:20], payload[20:]


def test_random_bytes_are_the_same_each_time() -> None:
    first, again = (Payloads().read(fragment("random(20)")) for _ in range(2))
    assert len(first) == 20
    assert first == again != bytes(20)


@pytest.mark.parametrize("texts", [["random(20) random(20)"], ["random(20)", "random(20)"]])
def test_each_use_in_a_test_gives_other_random_bytes(texts: list[str]) -> None:
    first, second = halves(*texts)
    assert first != second
    assert halves(*texts) == (first, second)


def test_random_bytes_with_a_number_come_back() -> None:
    first, second = halves("random(20, 7)", "random(20, 7)")
    assert first == second
    first, second = halves("random(20, 7)", "random(20, 8)")
    assert first != second


def test_what_is_repeated_is_the_same() -> None:
    first, second = halves("repeat(2, random(20))")
    assert first == second


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
        ("u16le(65536)", "S016"),
        ("u8le(1)", "S012"),
        ("random(1, 2, 3)", "S014"),
        ("random()", "S014"),
        ("zeros(1, 2)", "S014"),
        ('repeat(size, "a")', "S014"),
        ('repeat(-1, "a")', "S016"),
        (f'repeat({MAX_PAYLOAD_B + 1}, "a")', "S016"),
        (f'repeat({MAX_PAYLOAD_B}, "")  repeat({MAX_PAYLOAD_B + 1}, "")', "S016"),
        (f"repeat(2, zeros({MAX_PAYLOAD_B}))", "S016"),
        ("repeat(2)", "S010"),
        ("repeat(2, {??})", "S010"),
        ('"a" * 20', "S010"),
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
        Payloads().read(fragment(text))
    assert caught.value.diagnostic.code == code


def test_the_longest_payload() -> None:
    assert len(Payloads().read(fragment(f"zeros({MAX_PAYLOAD_B})"))) == MAX_PAYLOAD_B
