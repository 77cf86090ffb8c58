"""The abstract syntax of patterns, conditions and test payloads.

Nodes compare by meaning: their place in the file is carried along, not compared.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import Literal

from engine.language.diagnostics import Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """Anything that stands in a signature's text."""

    span: Span = field(compare=False, repr=False)


# --- patterns -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TextBody(Node):
    """`"..."`: these bytes."""

    value: bytes


@dataclass(frozen=True, slots=True)
class HexByte(Node):
    """One byte of a hex pattern; `mask` is 0xFF, 0xF0 (`4?`), 0x0F (`?4`) or 0 (`??`)."""

    value: int
    mask: int


@dataclass(frozen=True, slots=True)
class HexJump(Node):
    """`[2-4]`: from `low` to `high` bytes, both included, whatever they are."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class HexChoice(Node):
    """`( 41 | 42 43 )`: one of several sequences."""

    options: tuple[tuple[HexByte | HexJump | HexChoice, ...], ...]


HexItem = HexByte | HexJump | HexChoice


@dataclass(frozen=True, slots=True)
class HexBody(Node):
    """`{ 13 42 ?? }`."""

    items: tuple[HexItem, ...]


@dataclass(frozen=True, slots=True)
class RegexBody(Node):
    """`/.../`: a regular expression in Hyperscan's dialect, over bytes."""

    expression: str


@dataclass(frozen=True, slots=True)
class Pattern(Node):
    """`$name = BODY nocase`; the name carries its dollar sign."""

    name: str
    body: TextBody | HexBody | RegexBody
    nocase: bool = False


# --- conditions -----------------------------------------------------------------------

ArithmeticOperator = Literal["+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>"]
ComparisonOperator = Literal["==", "!=", "<", "<=", ">", ">="]
TextOperator = Literal[
    "contains", "startswith", "endswith", "icontains", "istartswith", "iendswith", "iequals"
]


@dataclass(frozen=True, slots=True)
class Number(Node):
    """An integer or, for entropies and shares, a decimal."""

    value: int | float


@dataclass(frozen=True, slots=True)
class Text(Node):
    """A byte string to compare with."""

    value: bytes


@dataclass(frozen=True, slots=True)
class Term(Node):
    """A field or function: `size`, `src.port`, `u16(16)`; the name is the whole dotted path."""

    name: str
    arguments: tuple[Expression, ...] = ()


@dataclass(frozen=True, slots=True)
class Unary(Node):
    """`-x` or `~x`."""

    operator: Literal["-", "~"]
    operand: Expression


@dataclass(frozen=True, slots=True)
class Arithmetic(Node):
    """`a + b` and the like, on integers."""

    operator: ArithmeticOperator
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Comparison(Node):
    """`a == b` and the like."""

    operator: ComparisonOperator
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class TextComparison(Node):
    """`a contains b` and the like, on texts; an `i` in front takes upper and lower case alike."""

    operator: TextOperator
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Matches(Node):
    """`a matches /.../`, `a imatches /.../`: whether a regular expression matches in a text."""

    text: Expression
    regex: RegexBody
    nocase: bool


@dataclass(frozen=True, slots=True)
class Count(Node):
    """`count($a)`, `count($a in 0..64)`: at how many offsets the pattern begins."""

    pattern: str
    place: Range | None = None


@dataclass(frozen=True, slots=True)
class Known(Node):
    """`known(x)`: whether x has a value."""

    operand: Expression


@dataclass(frozen=True, slots=True)
class Range(Node):
    """`low..high`, half-open."""

    low: Expression
    high: Expression


@dataclass(frozen=True, slots=True)
class Choice(Node):
    """`[80, 6881..6890]`, `["ping", "get"]`, `[10.0.0.0/8, ::1]`."""

    items: tuple[Expression | Range | Network, ...]

    @property
    def constants(self) -> tuple[Expression, ...]:
        """The items to be equal to."""
        return tuple(i for i in self.items if not isinstance(i, Range | Network))

    @property
    def stretches(self) -> tuple[Range | Network, ...]:
        """The items to be within."""
        return tuple(i for i in self.items if isinstance(i, Range | Network))


@dataclass(frozen=True, slots=True)
class Network(Node):
    """`10.0.0.0/8`, `2001:db8::/32`."""

    value: IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class ListReference(Node):
    """`@name`: the entries of a list file; the name goes without its sign."""

    name: str


@dataclass(frozen=True, slots=True)
class Member(Node):
    """`x in CONTAINER`; a term as container is a variable that was not filled in yet."""

    operand: Expression
    container: Range | Choice | Network | ListReference | Term


@dataclass(frozen=True, slots=True)
class Match(Node):
    """`$a`, `$a at 0` (an offset), `$a in 0..64` (where it may start).

    Offsets may be computed: `$a at u8(3)`.
    """

    pattern: str
    place: Expression | Range | None = None


@dataclass(frozen=True, slots=True)
class Of(Node):
    """`any of ($a, $b*)`, `all of them`, `2 of them at 0`; no patterns means `them`."""

    quantity: int | Literal["any", "all"]
    patterns: tuple[str, ...]
    place: Expression | Range | None = None


@dataclass(frozen=True, slots=True)
class Not(Node):
    """`not x`."""

    operand: Expression


@dataclass(frozen=True, slots=True)
class And(Node):
    """`a and b and c`."""

    operands: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Or(Node):
    """`a or b or c`."""

    operands: tuple[Expression, ...]


# What is true or false; fields can be, too.
Condition = Comparison | TextComparison | Matches | Member | Known | Match | Of | Not | And | Or
Expression = Number | Text | Term | Count | Unary | Arithmetic | Condition


# --- payloads of tests -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Repeat(Node):
    """`repeat(3, "ab" u8(1))`: parts of a payload, so many times."""

    times: Expression
    parts: tuple[PayloadPart, ...]


PayloadPart = TextBody | HexBody | Term | Repeat
