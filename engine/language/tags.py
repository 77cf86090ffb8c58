"""Tags: what one signature sets, another may ask for; whether it is ever set is told here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engine.language import syntax
from engine.language.diagnostics import Diagnostic, nearest
from engine.language.document import Signature

_ASKING = frozenset({"src.tagged", "dst.tagged"})


def check_tags(signatures: Sequence[Signature], *, are_all: bool = True) -> list[Diagnostic]:
    """What is wrong with the tags that conditions and tests ask for, over all signatures.

    Where these are not all, others may set what they ask for.
    """
    known = {s.then.tag.name for s in signatures if s.then.tag is not None}
    diagnostics = []
    for signature in signatures:
        asked = [
            (argument.span, argument.value.decode("latin-1"))
            for argument in _asked(signature.condition)
            if isinstance(argument, syntax.Text)
        ]
        asked += [
            (test.span, name)
            for test in signature.tests
            for name in sorted(test.source_tags | test.destination_tags)
        ]
        for span, name in asked:
            if are_all and name not in known:
                message = f"no signature sets the tag `{name}`"
                hint = nearest(name, known) or "set it by `tag` in a signature's `then`"
                diagnostics.append(Diagnostic("S030", message, signature.source, span, hint))
        diagnostics += [
            Diagnostic("S015", "a tag is named by a text", signature.source, argument.span)
            for argument in _asked(signature.condition)
            if not isinstance(argument, syntax.Text)
        ]
    return diagnostics


def _asked(expression: syntax.Expression) -> Iterator[syntax.Expression]:
    """What stands in the brackets of every `tagged(...)` of a checked condition."""
    match expression:
        case syntax.And(operands=operands) | syntax.Or(operands=operands):
            for operand in operands:
                yield from _asked(operand)
        case syntax.Not(operand=operand):
            yield from _asked(operand)
        case syntax.Term(name=name, arguments=arguments) if name in _ASKING:
            yield from arguments
