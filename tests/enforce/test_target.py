from __future__ import annotations

import pytest

from engine.enforce.target import address_of, has_port, parse_target, target_text


@pytest.mark.parametrize(
    ("text", "target", "is_endpoint"),
    [
        ("10.0.0.1", bytes([10, 0, 0, 1]), False),
        ("10.0.0.1:6881", bytes([10, 0, 0, 1, 0x1A, 0xE1]), True),
        ("2001:db8::1", bytes.fromhex("20010db8") + bytes(11) + b"\1", False),
        ("[2001:db8::1]:65535", bytes.fromhex("20010db8") + bytes(11) + b"\1\xff\xff", True),
        ("::", bytes(16), False),
        ("[::]:0", bytes(18), True),
    ],
)
def test_targets(text: str, target: bytes, is_endpoint: bool) -> None:
    assert parse_target(text) == target
    assert target_text(target) == text
    assert has_port(target) is is_endpoint
    assert address_of(target) == (target[:-2] if is_endpoint else target)


@pytest.mark.parametrize(
    "text",
    [
        *("", "somebody", "10.0.0", "10.0.0.1:", "10.0.0.1:65536", "10.0.0.1:-1", "10.0.0.1:x"),
        *(
            "10.0.0.256:1",
            "10.0.0.1:\u0661",
            "[10.0.0.1",
            "[::1]",
            "[::1]:x",
            "::1]:5",
            "[]:5",
            ":5",
        ),
    ],
)
def test_what_is_no_target(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_target(text)
