"""What a regular expression may look like before it meets Hyperscan.

Hyperscan says what it does not support, but not before it has tried: nested repeats can cost
it many seconds and hundreds of megabytes. It is also handed expressions with a place in front
of them, so one that closes a group it never opened would take its place apart.
"""

from __future__ import annotations

import functools
import math
import re
import warnings

from engine.language import syntax

# Streams are inspected up to 2048 bytes and datagrams seldom carry more than 1500, so longer
# repeats mean nothing. Within this, Hyperscan takes at most seconds and tens of megabytes.
MAX_POSITIONS = 4096

_PIECE = re.compile(
    r"""
    (?P<refused> \(\* | \(\?\# | \\Q | \(\?[a-zA-Z-]*x )
    | (?P<open> \( (?: \?[ims-]*: )? )
    | (?P<close> \) )
    | (?P<bar> \| )
    | (?P<repeat> (?: [*+?] | \{ [0-9]+ (?: , [0-9]* )? \} ) [+?]? )
    | (?P<atom> \[ \^? \]? (?: \[: \w+ :\] | \\. | [^\]\\] )* \] | \\x[0-9A-Fa-f]{2} | \\. | . )
    """,
    re.VERBOSE | re.DOTALL,
)
_MEANINGS = {
    "(*": "verbs such as `(*UTF8)` are not supported: patterns are about bytes",
    "(?#": "comments in a regular expression are not supported",
    "\\Q": "`\\Q` is not supported: write `\\` before each special character",
}


_LOOKS_BEHIND = frozenset({"^", r"\A", r"\b", r"\B"})


class RegexError(Exception):
    """A regular expression that is not handed to Hyperscan.

    `offset` is where in it; `too_large` tells apart what would only cost too much.
    """

    def __init__(self, reason: str, offset: int, *, too_large: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.offset = offset
        self.too_large = too_large


def check_regex(expression: str) -> int:
    """Refuse what is unbalanced, or unrolls to more than MAX_POSITIONS bytes. Raises RegexError.

    Gives the length of the expression with every repeat written out: `(ab{3}){2}` has 8.
    """
    # For each open group: where it opens, and the length before it.
    open_groups: list[tuple[int, int]] = []
    total = last = 0  # of the group at hand, and of its last item, which a repeat is about
    for piece in _PIECE.finditer(expression):
        text, offset = piece[0], piece.start()
        match piece.lastgroup:
            case "refused":
                meaning = _MEANINGS.get(text, "the extended syntax `x` is not supported")
                raise RegexError(meaning, offset)
            case "open":
                open_groups.append((offset, total))
                total = last = 0
            case "close":
                if not open_groups:
                    raise RegexError("this `)` closes nothing", offset)
                _, before = open_groups.pop()
                total, last = before + total, total
            case "bar":
                last = 0
            case "repeat":
                total += last * (_times(text) - 1)
                last *= _times(text)
            case _:
                total, last = total + 1, 1
        if total > MAX_POSITIONS:
            raise RegexError(
                f"written out, this is longer than {MAX_POSITIONS} bytes", offset, too_large=True
            )
    if open_groups:
        raise RegexError("this `(` is not closed", open_groups[-1][0])
    return total


def written_out(body: syntax.HexBody | syntax.RegexBody) -> int:
    """The length of a pattern in bytes with every repeat written out and every choice taken."""
    if isinstance(body, syntax.RegexBody):
        return check_regex(body.expression)
    return _hex_length(body.items)


def _hex_length(items: tuple[syntax.HexItem, ...]) -> int:
    total = 0
    for item in items:
        match item:
            case syntax.HexByte():
                total += 1
            case syntax.HexJump(high=high):
                total += high
            case syntax.HexChoice(options=options):
                total += sum(map(_hex_length, options))
    return total


def looks_behind(expression: str) -> bool:
    r"""Whether an expression asks what stands before its match: `^`, `\A`, `\b`, `\B`."""
    return any(piece[0] in _LOOKS_BEHIND for piece in _PIECE.finditer(expression))


def pinned_bits(expression: str) -> float:
    r"""How much an expression that `check_regex` accepts pins down, in bits, at the least.

    A byte pins 8 bits, a class of `n` bytes `8 - log2(n)`, `.` none; of alternatives the one
    that pins least counts, of repeats those that must be.
    """
    # For each open group: the least of its alternatives so far, and what stands before it.
    open_groups: list[tuple[float, float]] = []
    least, total, last = math.inf, 0.0, 0.0
    for piece in _PIECE.finditer(expression):
        match piece.lastgroup:
            case "open":
                open_groups.append((least, total))
                least, total, last = math.inf, 0.0, 0.0
            case "close":
                last = min(least, total)
                least, total = open_groups.pop()
                total += last
            case "bar":
                least, total, last = min(least, total), 0.0, 0.0
            case "repeat":
                times = _least_times(piece[0])
                total += last * (times - 1)
                last *= times
            case _:
                last = _bits_of_atom(piece[0])
                total += last
    return min(least, total)


@functools.cache
def _bits_of_atom(atom: str) -> float:
    try:
        with warnings.catch_warnings(action="ignore", category=FutureWarning):
            compiled = re.compile(atom.encode("ascii"), re.DOTALL)
    except (re.error, UnicodeEncodeError):
        return 0.0  # of Hyperscan's dialect alone
    count = sum(compiled.fullmatch(bytes([byte])) is not None for byte in range(256))
    return 8 - math.log2(count) if count else 0.0


def _least_times(repeat: str) -> int:
    """How many copies there must be."""
    if repeat[0] in "*?":
        return 0
    bound = re.match(r"\{([0-9]{1,5})", repeat)
    return int(bound[1]) if bound else 1


def _times(repeat: str) -> int:
    """How many copies a repeat makes at most; without an end, how many it needs."""
    bounds = re.findall(r"[0-9]+", repeat)
    # A number of ten digits is as absurd as any longer one.
    return max(1, *(int(bound[:10]) for bound in bounds)) if bounds else 1
