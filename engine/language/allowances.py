"""Warnings that a signature's author has seen and wants: `allow: [S102]`."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from engine.language.diagnostics import Diagnostic, has_errors
from engine.language.document import Signature


def settle(
    signature: Signature, found: Sequence[Diagnostic], codes: Collection[str]
) -> list[Diagnostic]:
    """What was found in a signature without what it allows.

    `codes` are the warnings that could have been found: an allowance of one of them that
    nothing needed is a warning itself.
    """
    allowed = {allowance.code for allowance in signature.allow}
    left = [diagnostic for diagnostic in found if diagnostic.code not in allowed]
    if has_errors(found):  # there might be warnings without them
        return left
    needed = {diagnostic.code for diagnostic in found}
    return left + [
        Diagnostic(
            "S104",
            f"nothing here gives the warning {allowance.code}",
            signature.source,
            allowance.span,
            "take it out of `allow`",
        )
        for allowance in signature.allow
        if allowance.code in codes and allowance.code not in needed
    ]
