"""The protocol views: what a field's name before its first dot stands for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from engine.fields import bencode, dns, http, tls, utp


@dataclass(frozen=True, slots=True)
class View:
    """What a payload is parsed as; `parse` gives None where it is not `noun`."""

    noun: str
    parse: Callable[[bytes], Any]


VIEWS = {
    "bencode": View("a bencoded dictionary", bencode.parse),
    "utp": View("a uTP packet", utp.parse_header),
    "http": View("an HTTP/1 message", http.parse_message),
    "tls": View("a TLS ClientHello", tls.parse_client_hello),
    "dns": View("a DNS message", dns.parse_message),
}
