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


# The words of the language: nothing else can have such a name.
KEYWORDS = frozenset(
    ["and", "or", "not", "in", "at", "of", "any", "all", "them", "nocase", "count", "known"]
)

# What a signature can look at (`scope.inspect`).
EVERY_INSPECT = frozenset({"stream", "packet", "middle", "flow"})
_ONE_BUFFER = EVERY_INSPECT - {"flow"}

Parameters = tuple[tuple[str, Type], ...]


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
    `certain` fields are never unknown. `transports` and `inspects` limit where the name makes
    sense: bytes, where there is one buffer to read them from, and so on.

    A name such as `turn(n).size` has its first parameter inside: a constant under
    `index_below`. Of what it reads, `reach_b` bytes are kept.

    Of a turn, `settles` says from when on the value is final: once it is "known", or once the
    turn is "complete"; what "grows" never shrinks before. None: it may change at any time.

    `implied` must match for the field to be known. A text field is `quoted` if its value
    stands in the payload as it is, or but for upper and lower case ("nocase"); otherwise
    `spell` may tell how a whole value stands there, upper and lower case aside. The end of a
    value, from a dot on, stands there as `spell` tells of what follows the dot; and all of it
    stands somewhere behind what `implied` matches, if `follows`.
    """

    name: str
    type: Type
    doc: str
    read: Callable[..., Any]
    parameters: Parameters = ()
    certain: bool = False
    transports: frozenset[str] = frozenset({"tcp", "udp"})
    inspects: frozenset[str] = _ONE_BUFFER
    index_below: int | None = None
    reach_b: int | None = None
    settles: Literal["known", "grows", "complete"] | None = None
    implied: Implied | None = None
    quoted: Literal["exact", "nocase"] | None = None
    spell: Callable[[bytes], bytes | None] | None = None
    follows: bool = False

    @property
    def signature(self) -> str:
        """How it is written: `size`, `u16(offset)`, `turn(n).u16(offset)`."""
        following = self.parameters[0 if self.index_below is None else 1 :]
        if not following:
            return self.name
        return f"{self.name}({', '.join(name for name, _ in following)})"


Vocabulary = Mapping[str, Field]
