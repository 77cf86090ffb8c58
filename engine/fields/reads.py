"""Reads of bytes: of the buffer under inspection and of the turns of a flow alike.

A read takes the data and the arguments that its parameters name, and gives None where not
all the bytes it asks for exist.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from engine.language.vocabulary import Parameters, Type

_OFFSET = (("offset", Type.NUMBER),)
_STRETCH = (("offset", Type.NUMBER), ("length", Type.NUMBER))
_PRINTABLE = frozenset(range(0x20, 0x7F)) | frozenset(b"\t\r\n")
_ORDERS: tuple[tuple[str, Literal["big", "little"]], ...] = (("", "big"), ("le", "little"))


@dataclass(frozen=True, slots=True)
class Read:
    """A way to read bytes, and what the language calls it; `doc` has a place for the buffer."""

    name: str
    type: Type
    doc: str
    parameters: Parameters
    read: Callable[..., int | float | bytes | None]


def stretch(data: bytes, offset: int, length: int) -> bytes | None:
    """`length` bytes from `offset`, None where they do not all exist."""
    if offset < 0 or length < 1 or offset + length > len(data):
        return None
    return data[offset : offset + length]


# Several signatures ask it of the same bytes, and again with the flow's next packet.
@lru_cache(maxsize=64)
def _entropy(data: bytes, offset: int, length: int) -> float | None:
    part = stretch(data, offset, length)
    if part is None:
        return None
    return -sum(n / length * math.log2(n / length) for n in Counter(part).values())


def _printable(data: bytes, offset: int, length: int) -> float | None:
    part = stretch(data, offset, length)
    return None if part is None else sum(byte in _PRINTABLE for byte in part) / length


from_bytes = int.from_bytes


def _integer(width: int, order: Literal["big", "little"]) -> Callable[[bytes, int], int | None]:
    def read(data: bytes, offset: int) -> int | None:
        end = offset + width
        if offset < 0 or end > len(data):
            return None
        return from_bytes(data[offset:end], order)

    return read


def _reads() -> Iterator[Read]:
    for bits in (8, 16, 32, 64):
        for suffix, order in _ORDERS[: 1 if bits == 8 else 2]:
            doc = f"The unsigned {bits}-bit integer at an offset{{}}"
            doc += "." if bits == 8 else f", {order}-endian."
            name, read = f"u{bits}{suffix}", _integer(bits // 8, order)
            yield Read(name, Type.NUMBER, doc, _OFFSET, read)
    doc = "Shannon entropy{} in bits a byte, 0 to 8."
    yield Read("entropy", Type.DECIMAL, doc, _STRETCH, _entropy)
    doc = "The share of printable ASCII bytes{}, 0 to 1."
    yield Read("printable", Type.DECIMAL, doc, _STRETCH, _printable)
    doc = "The bytes{} from an offset, to compare with a text."
    yield Read("text", Type.TEXT, doc, _STRETCH, stretch)


READS = tuple(_reads())
