"""What a ban is about: an address, or an endpoint, as bytes.

An address has 4 or 16 bytes in network order; an endpoint has its port's 2 bytes behind it, of
TCP and UDP alike.
"""

from __future__ import annotations

import socket
from ipaddress import ip_address


def has_port(target: bytes) -> bool:
    """Whether it is an endpoint."""
    return len(target) in (6, 18)


def address_of(target: bytes) -> bytes:
    """The address, without a port."""
    return target[:-2] if has_port(target) else target


def target_text(target: bytes) -> str:
    """The usual notation: `10.0.0.1`, `10.0.0.1:6881`, `2001:db8::1`, `[2001:db8::1]:6881`."""
    address = address_of(target)
    text = socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)
    if not has_port(target):
        return text
    port = int.from_bytes(target[-2:], "big")
    return f"{text}:{port}" if len(address) == 4 else f"[{text}]:{port}"


def parse_target(text: str) -> bytes:
    """Read that notation. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not (bracketed or host.count(".") == 3):
        return _packed(text)
    if not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise ValueError(f"{text!r}: a port is 0 to 65535, not {port!r}")
    return _packed(host[1:-1] if bracketed else host) + int(port).to_bytes(2, "big")


def _packed(address: str) -> bytes:
    try:
        return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    except (OSError, ValueError):
        return ip_address(address).packed  # it says what is wrong
