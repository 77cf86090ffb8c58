from __future__ import annotations

from ipaddress import ip_address

import pytest

from engine.language.ends import End, WrittenEnd, both_ends, read_end


@pytest.mark.parametrize(
    ("written", "address", "port"),
    [
        ("10.0.0.1:6881", "10.0.0.1", 6881),
        ("10.0.0.1", "10.0.0.1", None),
        ("[2001:db8::1]:443", "2001:db8::1", 443),
        ("2001:db8::1", "2001:db8::1", None),
        ("2001:db8::1:443", "2001:db8::1:443", None),
        ("::", "::", None),
        ("10.0.0.1:0", "10.0.0.1", 0),
        (53, None, 53),
    ],
)
def test_written(written: object, address: str | None, port: int | None) -> None:
    assert read_end(written) == WrittenEnd(address and ip_address(address), port)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "written",
    [
        *[
            "",
            ":",
            "10.0.0.1:1:1",
            ":53",
            "53",
            "10.0.0:53",
            "10.0.0.1:",
            "10.0.0.1:65536",
            "10.0.0.1:-1",
        ],
        *[
            "[::1]",
            "[::1]:",
            "[]:1",
            "[10.0.0.1:1",
            "[::1:1",
            "host:1",
            "10.0.0.0/8",
            "10.0.0.1:1:1",
        ],
        *[65536, -1, True, 1.5, None, ["10.0.0.1", 1]],
    ],
)
def test_wrong(written: object) -> None:
    with pytest.raises(ValueError, match=r"port|write"):
        read_end(written)


def test_what_is_not_said() -> None:
    v4, v6 = ip_address("192.0.2.1"), ip_address("2001:db8::1")
    source, destination = both_ends(WrittenEnd(), WrittenEnd(port=53))
    assert source == End(v4, 49152)
    assert destination == End(ip_address("192.0.2.2"), 53)
    source, destination = both_ends(WrittenEnd(), WrittenEnd(ip_address("::5")))
    assert source == End(v6, 49152)
    assert destination == End(ip_address("::5"), 49153)
    with pytest.raises(ValueError, match="IPv6"):
        both_ends(WrittenEnd(v4), WrittenEnd(v6))
