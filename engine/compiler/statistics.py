"""What a RuleSet is made of: what its author and its operator want to know about cost."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from engine.compiler.expression import HsExpression
from engine.compiler.plan import Plan

_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")
_SHOWN_EXPRESSIONS = 3


@dataclass(frozen=True, slots=True)
class SignatureStatistics:
    """How one signature is decided.

    `trigger` are regular expressions of which one must match, none where it runs on every
    packet; `trigger_bits` is how much the weakest of them pins down; `python` is what patterns
    cannot decide of it, nothing where they decide it all.
    """

    id: str
    bank: str
    trigger: tuple[str, ...]
    trigger_bits: float
    python: tuple[str, ...]

    @property
    def shown_trigger(self) -> str:
        """The trigger for people, in one line."""
        more = len(self.trigger) - _SHOWN_EXPRESSIONS
        shown = " | ".join(self.trigger[:_SHOWN_EXPRESSIONS]) or "every packet"
        return f"{shown} | {more} more" if more > 0 else shown


@dataclass(frozen=True, slots=True)
class BankStatistics:
    """The database of one kind of buffer; `bytes` is its compiled form."""

    name: str
    signatures: int
    expressions: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of a whole RuleSet; `searches` are looked for after a trigger, each in its own database."""

    patterns: int
    searches: int
    search_bytes: int
    banks: tuple[BankStatistics, ...]
    signatures: tuple[SignatureStatistics, ...]

    @property
    def need_python(self) -> int:
        """Signatures that more than patterns decide."""
        return sum(bool(signature.python) for signature in self.signatures)

    @property
    def bytes(self) -> int:
        """All databases together."""
        return self.search_bytes + sum(bank.bytes for bank in self.banks)

    def as_json(self) -> dict[str, object]:
        """The same for scripts."""
        return asdict(self)


def collect(banks: Iterable[tuple[str, list[Plan], int, int]]) -> Statistics:
    """Statistics from banks: name, plans, number of expressions, bytes of the database."""
    summed = list(banks)
    plans = [plan for _, of_bank, _, _ in summed for plan in of_bank]
    searches_b = [size for plan in plans for size in plan.searches.sizes_bytes]
    return Statistics(
        patterns=sum(len(plan.signature.patterns) for plan in plans),
        searches=len(searches_b),
        search_bytes=sum(searches_b),
        banks=tuple(
            BankStatistics(name, len(of_bank), expressions, size)
            for name, of_bank, expressions, size in summed
        ),
        signatures=tuple(
            SignatureStatistics(
                id=plan.signature.id,
                bank=name,
                trigger=tuple(sorted(map(readable, plan.trigger))),
                trigger_bits=min((e.bits for e in plan.trigger), default=0.0),
                python=tuple(plan.reasons),
            )
            for name, of_bank, _, _ in summed
            for plan in of_bank
        ),
    )


def readable(expression: HsExpression) -> str:
    r"""An expression as people write it: `GET \/` for `\x47\x45\x54\x20\x2f`."""

    def shown(escaped: re.Match[str]) -> str:
        character = chr(int(escaped[1], 16))
        if character.isascii() and (character.isalnum() or character in " \"%&',:;<=>@_`~!#"):
            return character
        return "\\" + character if "!" <= character <= "~" else escaped[0]

    return f"/{_ESCAPED.sub(shown, expression.regex)}/" + (" nocase" if expression.nocase else "")
