"""What is said to a proxy before the connection through it begins.

SOCKS 4 and 4a, SOCKS 5 (RFC 1928) with a password or without (RFC 1929), and HTTP's CONNECT
(RFC 9110, section 9.3.6). What follows is the peers' own, and is inspected like the start of
any stream.
"""

from __future__ import annotations

from collections.abc import Callable

from engine.fields.socks import address_end

# One proxy reached through another, and so on.
MAX_PROXIES = 4

# How many of a stream's first bytes are a proxy's part: 0, if none are; all that there are, as
# long as it may go on.
Preface = Callable[[bytes], int]

MAY_BE_PREFACES = frozenset(b"\0\4\5CH")
"""What one begins with."""

_NONE = -1
# The IANA registry's; a random byte should not pass for one.
_HIGHEST_METHOD = 9
_MAX_TEXT_B = 255


# Each answers where in the data a preface that begins at an offset ends: past the end of the
# data, where there is more to come, and _NONE, where this is none.
_Parse = Callable[[bytes, int], int]


def _socks5_message(data: bytes, at: int, codes: range) -> int:
    """A request or a reply: version, command or code, reserved, address."""
    for value, allowed in zip(data[at : at + 3], ((5,), codes, (0,)), strict=False):
        if value not in allowed:
            return _NONE
    end = address_end(data, at + 3)
    return _NONE if end is None else end


def _socks5_request(data: bytes, at: int) -> int:
    if data[at] != 5:
        return _NONE
    count = data[at + 1] if at + 1 < len(data) else 1
    methods = data[at + 2 : at + 2 + count]
    if not 1 <= count <= _HIGHEST_METHOD or any(m > _HIGHEST_METHOD for m in methods):
        return _NONE
    at += 2 + count
    if at < len(data) and data[at] == 1:  # a user's name and password
        for _ in range(2):
            at += 1 + (data[at + 1] if at + 1 < len(data) else 0)
        at += 1
    return _socks5_message(data, at, range(1, 4)) if at < len(data) else at + 1


def _socks5_answer(data: bytes, at: int) -> int:
    if data[at] != 5:
        return _NONE
    method = data[at + 1] if at + 1 < len(data) else 0
    if method > _HIGHEST_METHOD:
        return _NONE
    at += 2
    if method == 2:
        at += 2
    return _socks5_message(data, at, range(9)) if at < len(data) else at + 1


def _socks4_request(data: bytes, at: int) -> int:
    """Version, command, port, address, a user's name; and a host's, for address 0.0.0.x."""
    if data[at] != 4 or data[at + 1 : at + 2] not in (b"", b"\1", b"\2"):
        return _NONE
    texts = 2 if data[at + 4 : at + 7] == b"\0\0\0" else 1
    at += 8
    for _ in range(texts):
        end = data.find(b"\0", at, at + _MAX_TEXT_B)
        if end < 0:
            return _NONE if len(data) >= at + _MAX_TEXT_B else len(data) + 1
        at = end + 1
    return at


def _socks4_answer(data: bytes, at: int) -> int:
    return at + 8 if b"\0\x5a".startswith(data[at : at + 2]) else _NONE


def _head(start: bytes) -> _Parse:
    """HTTP's part ends with an empty line."""

    def parse(data: bytes, at: int) -> int:
        if not start.startswith(data[at : at + len(start)]):
            return _NONE
        end = data.find(b"\r\n\r\n", at)
        return end + 4 if end >= 0 else len(data) + 1

    return parse


def _preface(*parsers: _Parse) -> Preface:
    def measure(prefix: bytes) -> int:
        at = 0
        for _ in range(MAX_PROXIES):
            end = max(parse(prefix, at) for parse in parsers) if at < len(prefix) else _NONE
            if end == _NONE:
                break
            at = min(end, len(prefix))
        return at

    return measure


preface_to_proxy = _preface(_socks5_request, _socks4_request, _head(b"CONNECT "))
"""What is said to a proxy."""

preface_of_proxy = _preface(_socks5_answer, _socks4_answer, _head(b"HTTP/1."))
"""What a proxy says, once it has been asked."""
