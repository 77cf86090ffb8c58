"""The XDP program, compiled and tried on this machine's kernel, with the signatures it takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from engine.compiler.driver import DriverSignature, c_source, in_driver, program_number
from engine.enforce.bpf import BlockerProgram, RejectedError
from engine.enforce.compilation import Bytecode, CompilationError, compile_program
from engine.errors import UnavailableError
from engine.language.diagnostics import Diagnostic
from engine.language.document import Signature

DEFAULT_CAPACITY = 1_000_000

# Bans that the driver has set and user space has not heard of yet: as many as events wait.
_UNHEARD = 8192


@dataclass(frozen=True, slots=True)
class XdpProgram:
    """What XdpFilter loads. `number` is that of the program's events."""

    bytecode: Bytecode
    signatures: tuple[DriverSignature, ...]
    number: int


def build_program(
    signatures: Sequence[Signature] = (), *, capacity: int = DEFAULT_CAPACITY
) -> tuple[XdpProgram, list[Diagnostic]]:
    """Build the program for `capacity` bans, with those of the signatures that can run in it.

    What the kernel or the compiler refuses is left out, with a diagnostic. Takes seconds, and
    many of them where something is refused. Raises UnavailableError where BCC, kernel
    headers, capabilities or memory are missing.
    """
    program, refused = fit(in_driver(signatures), capacity)
    return program, list(_diagnostics(signatures, refused))


def fit(
    signatures: Sequence[DriverSignature], capacity: int
) -> tuple[XdpProgram, Mapping[str, str]]:
    """The program with as many of the signatures as the kernel takes, and why not the others."""
    wanted = list(signatures)
    refused: dict[str, str] = {}
    while True:
        try:
            program = XdpProgram(_tried(wanted, capacity), tuple(wanted), program_number(wanted))
        except (CompilationError, RejectedError) as refusal:
            if not wanted:  # it is not for the signatures
                raise UnavailableError(f"the kernel refuses the XDP program: {refusal}") from None
            refused |= _refused_alone(wanted, capacity) or {
                signature.id: f"with the others: {refusal}"
                for signature in wanted[len(wanted) // 2 :]
            }
            wanted = [signature for signature in wanted if signature.id not in refused]
        else:
            return program, refused


def _refused_alone(signatures: Sequence[DriverSignature], capacity: int) -> dict[str, str]:
    refused = {}
    for signature in signatures:
        try:
            _tried([signature], capacity)
        except (CompilationError, RejectedError) as refusal:
            refused[signature.id] = str(refusal)
    return refused


def _tried(signatures: Sequence[DriverSignature], capacity: int) -> Bytecode:
    bytecode = compile_program(c_source(signatures), capacity + _UNHEARD)
    BlockerProgram(bytecode).close()
    return bytecode


def _diagnostics(
    signatures: Sequence[Signature], refused: Mapping[str, str]
) -> Iterator[Diagnostic]:
    for signature in signatures:
        if signature.id in refused:
            yield Diagnostic(
                "S105",
                f"the driver does not take `{signature.id}`; NFQUEUE alone decides it",
                signature.source,
                signature.condition.span,
                refused[signature.id],
            )
