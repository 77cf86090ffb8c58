"""From a folder of signature files to a RuleSet."""

from __future__ import annotations

from pathlib import Path

from engine.compiler.ruleset import RuleSet
from engine.fields import VOCABULARY
from engine.language.checker import check
from engine.language.diagnostics import (
    Diagnostic,
    SignatureError,
    Source,
    Span,
    has_errors,
)
from engine.language.document import Signature, read

_START = Span(1, 1, 1, 2)


def load(directory: Path) -> RuleSet:
    """Compile every `*.yaml` below `directory`.

    Raises SignatureError with the diagnostics of all files at once. Warnings are on the
    RuleSet; the signatures' own tests are not run here (`RuleSet.self_test`).
    """
    signatures: list[Signature] = []
    diagnostics: list[Diagnostic] = []
    for source in _sources(directory):
        found, mistakes = read(source)
        diagnostics += mistakes
        for signature in found:
            diagnostics += check(
                signature.patterns,
                signature.condition,
                transport=signature.transport,
                vocabulary=VOCABULARY,
                source=source,
            )
        signatures += found
    diagnostics += _duplicate_ids(signatures)
    if has_errors(diagnostics):
        raise SignatureError(diagnostics)
    return RuleSet(signatures, warnings=diagnostics)


def _sources(directory: Path) -> list[Source]:
    def refuse(reason: str) -> SignatureError:
        return SignatureError([Diagnostic("S009", reason, Source(directory, ""), _START)])

    if not directory.is_dir():
        raise refuse(f"there is no signature folder `{directory}`")
    paths = sorted(path for path in directory.rglob("*.yaml") if path.is_file())
    if not paths:
        raise refuse(f"no `*.yaml` file in `{directory}`")
    sources = []
    for path in paths:
        try:
            sources.append(Source(path, path.read_text("utf-8")))
        except (OSError, UnicodeDecodeError) as error:
            raise SignatureError(
                [Diagnostic("S009", f"{path} cannot be read: {error}", Source(path, ""), _START)]
            ) from error
    return sources


def _duplicate_ids(signatures: list[Signature]) -> list[Diagnostic]:
    first: dict[str, Signature] = {}
    diagnostics = []
    for signature in signatures:
        other = first.setdefault(signature.id, signature)
        if other is not signature:
            where = f"{other.source.path}:{other.span.line}"
            diagnostics.append(
                Diagnostic(
                    "S008",
                    f"the id `{signature.id}` is taken",
                    signature.source,
                    signature.span,
                    f"by {where}",
                )
            )
    return diagnostics
