"""How long patterns may be with every repeat written out: what Hyperscan takes its time over.

It compiles a text in no time, and thousands of ordinary patterns in seconds. A byte of a long
repeat costs it 0.02 to 2 ms, by what is repeated; so long ones are bounded, one by one and all
together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from engine.language import syntax
from engine.language.diagnostics import Diagnostic
from engine.language.document import Signature
from engine.language.parser import walk
from engine.language.regex import written_out

# Shorter ones are free; `{ 41 [4-16] 42 }` has 18 bytes.
LARGE_B = 256
# Of all large ones of a set; so much compiles within minutes at worst.
MAX_LARGE_B = 64 * 4096


def check_budget(signatures: Iterable[Signature]) -> list[Diagnostic]:
    """Whether the large patterns of a whole set are too much together."""
    large = [
        (length_b, body, signature)
        for signature in signatures
        for body in _bodies(signature)
        if (length_b := written_out(body)) > LARGE_B
    ]
    total_b = sum(length_b for length_b, _, _ in large)
    if total_b <= MAX_LARGE_B:
        return []
    longest_b, body, signature = max(large, key=lambda found: found[0])
    message = (
        f"{len(large)} patterns have more than {LARGE_B} bytes with their repeats written out, "
        f"{total_b} together; the limit is {MAX_LARGE_B}"
    )
    hint = f"this one has {longest_b}: repeat less"
    return [Diagnostic("S023", message, signature.source, body.span, hint)]


def _bodies(signature: Signature) -> Iterator[syntax.HexBody | syntax.RegexBody]:
    for pattern in signature.patterns:
        if not isinstance(pattern.body, syntax.TextBody):
            yield pattern.body
    for node in walk(signature.condition):
        if isinstance(node, syntax.Matches):
            yield node.regex
