"""From a folder of signature files, with its lists and variables, to a RuleSet."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from engine.certainty import DEFAULT_PROFILE, PROFILES, DetectionProfile
from engine.compiler.ruleset import RuleSet
from engine.fields import VOCABULARY
from engine.language.allowances import settle
from engine.language.budget import check_budget
from engine.language.checker import check
from engine.language.diagnostics import (
    Diagnostic,
    MistakeError,
    SignatureError,
    Source,
    Span,
    has_errors,
)
from engine.language.document import Signature, read
from engine.language.lists import MAX_LIST_B, Lists
from engine.language.tags import check_tags
from engine.language.variables import Filling, read_variables

MAX_FILE_B = 1024 * 1024
VARIABLES = "vars.yaml"
LISTS = "lists"

_START = Span(1, 1, 1, 2)


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """Let no garbage be collected meanwhile.

    Syntax trees hold no cycles, and looking for some in millions of new objects takes a fifth
    of the time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@_without_collection()
def load(
    place: Path, *, profile: DetectionProfile = DEFAULT_PROFILE, enable_all: bool = False
) -> RuleSet:
    """Compile a signature file, or every `*.yaml` below a folder.

    Signatures that are less certain than `profile` asks for are disabled. With `enable_all`
    those that say `enabled: false` judge packets like the others.
    Variables and lists are those of the folder, or of the nearest folder above the file that
    has any, two levels up at most.

    Raises SignatureError with the diagnostics of all files at once. Warnings are on the
    RuleSet; the signatures' own tests are not run here (`engine.selftest`).
    """
    signatures: list[Signature] = []
    diagnostics: list[Diagnostic] = []
    sources = _sources(place, diagnostics)
    home = _home(place)
    lists = _lists(home / LISTS, diagnostics)
    filling = _variables(home / VARIABLES, diagnostics)
    for source in sources:
        found, mistakes = read(source)
        diagnostics += mistakes
        for written in found:
            try:
                filled = filling.fill(written.condition, source)
            except MistakeError as mistake:
                diagnostics.append(mistake.diagnostic)
                continue
            if filled is None:  # told at the variable
                continue
            signature = replace(written, condition=filled)
            found_in_it = check(
                signature.patterns,
                signature.condition,
                transport=signature.transport,
                inspect=signature.inspect,
                vocabulary=VOCABULARY,
                source=source,
                lists=lists,
                variables=filling.names,
            )
            diagnostics += settle(signature, found_in_it, ["S101"])
            signatures.append(signature)
    diagnostics += _duplicate_ids(signatures)
    diagnostics += lists.diagnostics
    diagnostics += check_budget(signatures)
    if not has_errors(diagnostics):  # or the one that sets or uses it may have been left out
        diagnostics += check_tags(signatures, are_all=place.is_dir())
        diagnostics += [*filling.unused(), *lists.unused()] if place.is_dir() else []
    if has_errors(diagnostics):
        raise SignatureError(diagnostics)
    if not signatures:
        what = "every file" if place.is_dir() else "it"
        raise _refused(place, f"no signature in `{place}`: {what} is empty")
    if enable_all:
        signatures = [replace(signature, enabled=True) for signature in signatures]
    signatures = [
        s if s.certainty in PROFILES[profile] else replace(s, enabled=False) for s in signatures
    ]
    return RuleSet(signatures, warnings=diagnostics, lists=lists)


def _home(place: Path) -> Path:
    """The folder whose variables and lists a file or folder uses."""
    if place.is_dir():
        return place
    near = place.absolute().parents[:2]
    return next((f for f in near if (f / VARIABLES).exists() or (f / LISTS).is_dir()), near[0])


def _paths(place: Path) -> list[Path]:
    """The file, or those in the folder."""
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise _refused(place, f"there is no signature file or folder `{place}`")
    paths = sorted(
        path for path in place.rglob("*.yaml") if path.is_file() and path != place / VARIABLES
    )
    if not paths:
        raise _refused(place, f"no `*.yaml` file in `{place}`")
    return paths


def _sources(place: Path, diagnostics: list[Diagnostic]) -> list[Source]:
    """The signature files that can be read."""
    read_each = (_source(path, MAX_FILE_B, diagnostics) for path in _paths(place))
    return [source for source in read_each if source is not None]


def _lists(directory: Path, diagnostics: list[Diagnostic]) -> Lists:
    found = {
        path.stem: _source(path, MAX_LIST_B, diagnostics)
        for path in sorted(directory.glob("*.txt"))
        if path.is_file()
    }
    # One that cannot be read is told once, not again at each of its uses.
    return Lists({n: s or Source(directory / f"{n}.txt", "") for n, s in found.items()})


def _variables(path: Path, diagnostics: list[Diagnostic]) -> Filling:
    source = _source(path, MAX_FILE_B, diagnostics) if path.exists() else None
    if source is None:
        return Filling({}, VOCABULARY)
    variables, mistakes = read_variables(source, VOCABULARY)
    diagnostics += mistakes
    return Filling(variables, VOCABULARY)


def _source(path: Path, max_b: int, diagnostics: list[Diagnostic]) -> Source | None:
    """A file's text; None, and why, where it cannot be read."""

    def refuse(code: str, message: str) -> None:
        diagnostics.append(Diagnostic(code, message, Source(path, ""), _START))

    try:
        if path.stat().st_size > max_b:
            refuse("S023", f"{path} is longer than {max_b} bytes; split it")
            return None
        return Source(path, path.read_text("utf-8"))
    except OSError as error:
        refuse("S009", f"{path} cannot be read: {error.strerror}")
    except UnicodeDecodeError as error:
        refuse("S009", f"{path} is not UTF-8: {error.reason} at byte {error.start}")
    return None


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
