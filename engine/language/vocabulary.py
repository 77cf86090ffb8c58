"""What a condition can name: the shape of the registry that checker, compiler and docs share.

The fields themselves are registered in `engine.fields`; the language knows no packets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal


class Type(StrEnum):
    """The types of the language."""

    NUMBER = "an integer"
    DECIMAL = "a decimal"
    TEXT = "a text"
    TRUTH = "a truth value"
    ADDRESS = "an address"


@dataclass(frozen=True, slots=True)
class Implied:
    """A regular expression, in Hyperscan's dialect, that matches wherever a field is known.

    `bits` says how much it tells, as in `HsExpression`. What few packets match but those of
    the protocol itself has VIEW_BITS: enough to be a trigger, less than any longer text.
    """

    regex: str
    bits: float


VIEW_BITS = 24.0


@dataclass(frozen=True, slots=True)
class Field:
    """A name a condition can use.

    `read(context, *arguments)` gives the value, or None when the packet does not have it
    (a read past the end, a view of another protocol): unknown, in the language's logic.
    `certain` fields are never unknown. `transports` limits where the name makes sense.
    `implied` must match for the field to be known. A text field is `quoted` if its value
    stands in the payload as it is, or but for upper and lower case ("nocase"); otherwise
    `spell` may tell how a whole value stands there, upper and lower case aside.
    """

    name: str
    type: Type
    doc: str
    read: Callable[..., Any]
    parameters: tuple[tuple[str, Type], ...] = ()
    certain: bool = False
    transports: frozenset[str] = frozenset({"tcp", "udp"})
    implied: Implied | None = None
    quoted: Literal["exact", "nocase"] | None = None
    spell: Callable[[bytes], bytes | None] | None = None

    @property
    def signature(self) -> str:
        """How it is written: `size`, `u16(offset)`."""
        if not self.parameters:
            return self.name
        return f"{self.name}({', '.join(name for name, _ in self.parameters)})"


Vocabulary = Mapping[str, Field]
