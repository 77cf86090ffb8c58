"""The start of an HTTP/1 message (RFC 9112)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from engine.language.vocabulary import VIEW_BITS, Implied

MAX_HEADERS = 64

_REQUEST_LINE = r"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) ([^ \r\n]+) HTTP/1\.[01]\r?\n"
_STATUS_LINE = r"HTTP/1\.[01] ([0-9]{3})[ \r\n]"
_REQUEST = re.compile(_REQUEST_LINE.encode())
_STATUS = re.compile(_STATUS_LINE.encode())

REQUEST_IMPLIED = Implied(f"^{_REQUEST_LINE}", VIEW_BITS)
STATUS_IMPLIED = Implied(f"^{_STATUS_LINE}", VIEW_BITS)
MESSAGE_IMPLIED = Implied(f"^(?:{_REQUEST_LINE}|{_STATUS_LINE})", VIEW_BITS)


@dataclass(frozen=True, slots=True)
class HttpMessage:
    """A request (`method` and `target` are set) or a response (`status` is).

    `headers` maps lower-case names to values as sent, the first of each name; only lines
    that have arrived in full are in it. `complete` says whether the empty line after them has.
    """

    method: bytes | None
    target: bytes | None
    status: int | None
    headers: dict[bytes, bytes]
    complete: bool

    @property
    def path(self) -> bytes | None:
        """The target up to its question mark."""
        return None if self.target is None else self.target.partition(b"?")[0]

    @property
    def query(self) -> bytes | None:
        """The target after its question mark."""
        if self.target is None or b"?" not in self.target:
            return None
        return self.target.partition(b"?")[2]

    @property
    def host(self) -> bytes | None:
        """The Host header in lower case, without a port."""
        value = self.headers.get(b"host")
        if value is None:
            return None
        name = value.lower()
        if name.startswith(b"["):  # an IPv6 address
            return name.partition(b"]")[0][1:]
        return name.partition(b":")[0]


def parse_message(stream: bytes) -> HttpMessage | None:
    """The message that a stream begins with; None if it does not begin with one.

    The first line must have arrived in full; of the headers, what has.
    """
    if request := _REQUEST.match(stream):
        return HttpMessage(request[1], request[2], None, *_headers(stream, request.end()))
    if status := _STATUS.match(stream):
        end_of_line = stream.find(b"\n")
        headers, complete = _headers(stream, end_of_line + 1) if end_of_line >= 0 else ({}, False)
        return HttpMessage(None, None, int(status[1]), headers, complete)
    return None


def _headers(stream: bytes, start: int) -> tuple[dict[bytes, bytes], bool]:
    """The headers from an offset on, and whether the empty line that ends them was reached."""
    headers: dict[bytes, bytes] = {}
    while len(headers) < MAX_HEADERS:
        end = stream.find(b"\n", start)
        line = stream[start:end].removesuffix(b"\r")
        if end < 0 or not line:
            return headers, end >= 0
        name, colon, value = line.partition(b":")
        if not colon:
            break
        headers.setdefault(name.lower(), value.strip(b" \t"))
        start = end + 1
    return headers, False
