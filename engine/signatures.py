"""From a folder of signature files, or one of them, to a RuleSet."""

from __future__ import annotations

from dataclasses import replace
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
from engine.language.tags import check_tags

MAX_FILE_B = 1024 * 1024

_START = Span(1, 1, 1, 2)


def load(place: Path, *, enable_all: bool = False) -> RuleSet:
    """Compile a signature file, or every `*.yaml` below a folder.

    With `enable_all` the signatures that say `enabled: false` judge packets like the others.

    Raises SignatureError with the diagnostics of all files at once. Warnings are on the
    RuleSet; the signatures' own tests are not run here (`engine.selftest`).
    """
    signatures: list[Signature] = []
    sources, diagnostics = _sources(place)
    for source in sources:
        found, mistakes = read(source)
        diagnostics += mistakes
        for signature in found:
            diagnostics += check(
                signature.patterns,
                signature.condition,
                transport=signature.transport,
                inspect=signature.inspect,
                vocabulary=VOCABULARY,
                source=source,
            )
        signatures += found
    diagnostics += _duplicate_ids(signatures)
    if not has_errors(diagnostics):  # or a tag's signature may be one that was left out
        diagnostics += check_tags(signatures)
    if has_errors(diagnostics):
        raise SignatureError(diagnostics)
    if not signatures:
        what = "every file" if place.is_dir() else "it"
        raise _refused(place, f"no signature in `{place}`: {what} is empty")
    if enable_all:
        signatures = [replace(signature, enabled=True) for signature in signatures]
    return RuleSet(signatures, warnings=diagnostics)


def _paths(place: Path) -> list[Path]:
    """The file, or those in the folder."""
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise _refused(place, f"there is no signature file or folder `{place}`")
    paths = sorted(path for path in place.rglob("*.yaml") if path.is_file())
    if not paths:
        raise _refused(place, f"no `*.yaml` file in `{place}`")
    return paths


def _sources(place: Path) -> tuple[list[Source], list[Diagnostic]]:
    """The files that can be read, and what is wrong with the others."""
    paths = _paths(place)
    sources: list[Source] = []
    refused: list[Diagnostic] = []
    for path in paths:
        try:
            if path.stat().st_size > MAX_FILE_B:
                message = f"{path} is longer than {MAX_FILE_B} bytes; split it"
                refused.append(Diagnostic("S023", message, Source(path, ""), _START))
            else:
                sources.append(Source(path, path.read_text("utf-8")))
        except OSError as error:
            message = f"{path} cannot be read: {error.strerror}"
            refused.append(Diagnostic("S009", message, Source(path, ""), _START))
        except UnicodeDecodeError as error:
            message = f"{path} is not UTF-8: {error.reason} at byte {error.start}"
            refused.append(Diagnostic("S009", message, Source(path, ""), _START))
    return sources, refused


def _refused(path: Path, reason: str) -> SignatureError:
    return SignatureError([Diagnostic("S009", reason, Source(path, ""), _START)])


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
