"""From bpf/blocker.bpf.c to BPF instructions, by BCC in a process of its own.

The one file that knows BCC. A process of its own, because BCC brings 140 MB of LLVM, changes
the working directory while it compiles, prints its reasons on file descriptor 2 and raises
bare `Exception`. It makes the maps, too, and puts their file descriptors into the
instructions; those end with the process, and whoever loads the instructions puts in its own.

    echo '{"source": ..., "signatures": ..., "flags": [...]}' | python -m engine.enforce.compilation
"""

from __future__ import annotations

import ctypes as ct
import errno
import json
import logging
import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import engine
from engine.enforce.kernel_headers import kernel_source
from engine.enforce.marks import MARK_BITS
from engine.errors import UnavailableError
from engine.inspect.stream import PREFIX_B
from engine.paths import bpf_source
from engine.privileges import BPF, Capability, drop_privileges

_log = logging.getLogger(__name__)

NEEDS_ROOT = "XDP needs root (CAP_BPF and CAP_NET_ADMIN)"

_TIMEOUT_S = 120
_LOAD_IMMEDIATE = 0x18  # BPF_LD | BPF_IMM | BPF_DW, include/uapi/linux/bpf.h
_PSEUDO_MAP_FD = 1  # the register field of one that takes a map


class CompilationError(Exception):
    """The C is refused; carries the compiler's reason."""


@dataclass(frozen=True, slots=True)
class MapDefinition:
    """A map as the C declares it; `type` and `flags` are the kernel's numbers."""

    name: str
    type: int
    key_b: int
    value_b: int
    entries: int
    flags: int


@dataclass(frozen=True, slots=True)
class Function:
    """Instructions of one program, and the map that each of these positions wants."""

    instructions: bytes
    maps: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class Bytecode:
    """The programs by name, and the maps that they share."""

    functions: Mapping[str, Function]
    maps: tuple[MapDefinition, ...]


def compile_program(signatures: str, ban_entries: int) -> Bytecode:
    """Compile bpf/blocker.bpf.c with these signatures and so many entries in each ban map.

    `signatures` is C from `engine.compiler.driver`. Takes a second or two. Raises
    CompilationError for what the compiler refuses, UnavailableError where BCC, kernel headers,
    capabilities or memory are missing.
    """
    request = {
        "source": str(bpf_source()),
        "signatures": signatures,
        "flags": [
            f"-DBAN_CAPACITY={ban_entries}",
            f"-DMARK_BITS={MARK_BITS}",
            f"-DSTREAM_PREFIX_B={PREFIX_B}",
        ],
    }
    root = Path(engine.__file__).resolve().parent.parent
    with kernel_source() as headers:
        path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "PYTHONPATH": path}
        if headers is not None:
            environment["BCC_KERNEL_SOURCE"] = str(headers)
        done = subprocess.run(
            [sys.executable, "-P", "-m", __name__],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            env=environment,
            check=False,
        )
    if done.returncode != 0:
        raise _not_compiled(done.stderr)
    answer = json.loads(done.stdout)
    return Bytecode(
        {
            name: Function(
                bytes.fromhex(function["instructions"]),
                {int(position): wanted for position, wanted in function["maps"].items()},
            )
            for name, function in answer["functions"].items()
        },
        tuple(MapDefinition(**definition) for definition in answer["maps"]),
    )


def _not_compiled(complaints: str) -> Exception:
    _log.debug("BCC said: %s", complaints)
    if "No module named 'bcc'" in complaints:
        return UnavailableError(
            "python3-bpfcc is not installed: apt-get install python3-bpfcc"
            " linux-headers-$(uname -r)"
        )
    if os.strerror(errno.EPERM) in complaints or "super-user" in complaints:
        return UnavailableError(NEEDS_ROOT)
    if os.strerror(errno.ENOMEM) in complaints:
        return UnavailableError("no memory for the XDP program's maps")
    lines = complaints.splitlines() or ["BCC was killed"]
    return CompilationError(next((line for line in lines if "error:" in line), lines[-1]))


# --- in the process of its own


def _compile(request: Mapping[str, Any]) -> dict[str, Any]:
    # It makes maps and reads headers, of whoever they are.
    drop_privileges(BPF | {Capability.DAC_READ_SEARCH})
    import bcc

    with tempfile.TemporaryDirectory(prefix="btblocker-signatures-") as folder:
        (Path(folder) / "signatures.h").write_text(request["signatures"])
        module = bcc.BPF(src_file=request["source"], cflags=[*request["flags"], f"-I{folder}"])
    library, handle = bcc.libbcc.lib, module.module
    library.bpf_num_tables.argtypes = [ct.c_void_p]
    library.bpf_table_name.argtypes = [ct.c_void_p, ct.c_size_t]
    library.bpf_table_name.restype = ct.c_char_p
    names = {}
    for number in range(library.bpf_num_tables(handle)):
        name = library.bpf_table_name(handle, number)
        names[library.bpf_table_fd(handle, name)] = name.decode()
    functions = [
        library.bpf_function_name(handle, number)
        for number in range(library.bpf_num_functions(handle))
    ]
    return {
        "maps": [asdict(_definition(name, fd)) for fd, name in names.items()],
        "functions": {
            name.decode(): asdict(_function(module.dump_func(name), names)) for name in functions
        },
    }


def _definition(name: str, fd: int) -> MapDefinition:
    lines = Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines()
    facts = dict(line.split(":", 1) for line in lines)
    wanted = ("map_type", "key_size", "value_size", "max_entries", "map_flags")
    return MapDefinition(name, *(int(facts[fact].strip(), 0) for fact in wanted))


def _function(instructions: bytes, names: Mapping[int, str]) -> Function:
    """Find where the instructions take maps: struct bpf_insn, include/uapi/linux/bpf.h."""
    found = {}
    for position, (code, registers, _, value) in enumerate(
        struct.iter_unpack("=BBhi", instructions)
    ):
        if code == _LOAD_IMMEDIATE and registers >> 4 == _PSEUDO_MAP_FD:
            found[position] = names[value]
    return Function(instructions, found)


if __name__ == "__main__":
    json.dump(_compile(json.load(sys.stdin)), sys.stdout, default=bytes.hex)
