"""Signatures for the XDP program: which can run there, and their conditions as C.

The driver sees one packet at a time and can read bytes at fixed offsets. So it takes the
signatures that ban on a single payload, and of their conditions what such bytes, the
payload's size and the ports decide. The rest of a condition is taken for false: in a
normalised condition that can only make it true less often, never more, and NFQUEUE asks
the whole of it about every packet that the driver lets pass.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from engine.compiler.c_condition import condition_in_c
from engine.compiler.normal import normalise
from engine.language.document import Signature
from engine.language.form import Then

# Each costs every packet of its transport a comparison or two, one after the other.
MAX_SIGNATURES = 32

_KINDS = ("udp_packet", "tcp_packet", "tcp_stream")
_ARGUMENTS = ("payload", "end", "size", "source_port", "destination_port")
_PARAMETERS = "const u8 *payload, const void *end, u32 size, u16 source_port, u16 destination_port"


@dataclass(frozen=True, slots=True)
class DriverSignature:
    """A signature that the XDP program decides, whole or in part; `condition` is C."""

    id: str
    rev: int
    then: Then
    kind: str
    condition: str


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a signature runs: `driver` says how much of it the XDP program can decide.

    `reasons` is what it cannot, in the author's words.
    """

    id: str
    driver: Literal["whole", "part", "none"]
    reasons: tuple[str, ...]
    signature: DriverSignature | None

    def __str__(self) -> str:
        why = ", ".join(self.reasons)
        match self.driver:
            case "whole":
                return "decides it"
            case "part":
                return f"decides a part of it, not {why}"
            case "none":
                return f"cannot: {why}" if why else "cannot"

    def as_json(self) -> dict[str, object]:
        """The same for scripts."""
        return {"id": self.id, "driver": self.driver, "reasons": list(self.reasons)}


def place(signature: Signature) -> Placement:
    """How much of a checked signature the XDP program can decide, and why not all."""
    refusals = tuple(_refusals(signature))
    if refusals:
        return Placement(signature.id, "none", refusals, None)
    code, reasons = condition_in_c(normalise(signature.condition), signature.patterns)
    if code is None:
        return Placement(signature.id, "none", reasons, None)
    in_driver = DriverSignature(signature.id, signature.rev, signature.then, _kind(signature), code)
    return Placement(signature.id, "part" if reasons else "whole", reasons, in_driver)


def _kind(signature: Signature) -> str:
    return f"{signature.transport}_{signature.inspect}"


def placements(signatures: Iterable[Signature]) -> list[Placement]:
    """Where each of the signatures runs; the driver takes the first MAX_SIGNATURES it can."""
    placed: list[Placement] = []
    taken = 0
    for signature in signatures:
        placement = place(signature)
        if placement.signature is not None:
            if taken == MAX_SIGNATURES:
                full = f"the driver has {MAX_SIGNATURES} others"
                placement = Placement(signature.id, "none", (full,), None)
            else:
                taken += 1
        placed.append(placement)
    return placed


def in_driver(signatures: Iterable[Signature]) -> tuple[DriverSignature, ...]:
    """Those that run in the driver, in order."""
    return tuple(p.signature for p in placements(signatures) if p.signature is not None)


def _refusals(signature: Signature) -> Iterable[str]:
    """What takes more than a condition on one payload."""
    if not signature.enabled:
        yield "enabled: false"
    if _kind(signature) not in _KINDS:
        yield f"inspect: {signature.inspect}"
    if signature.then.action != "block":
        yield f"action: {signature.then.action}"
    if signature.then.threshold is not None:
        yield "threshold"
    if signature.then.ban is not None and signature.then.ban.of not in (None, "source"):
        yield f"ban: {{of: {signature.then.ban.of}}}"


def program_number(signatures: Sequence[DriverSignature]) -> int:
    """What tells programs of different signatures apart; it depends on nothing else."""
    text = "\n".join(f"{s.id} {s.rev} {s.kind} {s.condition}" for s in signatures)
    return zlib.crc32(text.encode()) if signatures else 0


def c_source(signatures: Sequence[DriverSignature]) -> str:
    """What bpf/blocker.bpf.c includes as signatures.h; a signature's number is its position."""
    by_kind = {
        kind: [(n, s) for n, s in enumerate(signatures) if s.kind == kind] for kind in _KINDS
    }
    lines = [f"#define PROGRAM {program_number(signatures)}u"]
    for kind, numbered in by_kind.items():
        lines.append(f"#define HAVE_{kind.upper()} {int(bool(numbered))}")
        for number, signature in numbered:
            lines += [
                "",
                f"// {signature.id}",
                f"static __always_inline int signature_{number}({_PARAMETERS}) {{",
                f"    return {signature.condition};",
                "}",
            ]
        lines += ["", f"static __always_inline int match_{kind}({_PARAMETERS}) {{"]
        lines += [
            f"    if (signature_{number}({', '.join(_ARGUMENTS)}))\n        return {number};"
            for number, _ in numbered
        ]
        lines += ["    return NONE;", "}", ""]
    return "\n".join(lines)
