"""The blocker's BPF program in the kernel: compiled, loaded, linked, its maps read and written.

The one file that knows BCC and libbpf. What is not obvious about them:

- BCC compiles bpf/blocker.bpf.c and makes the maps; it prints its reasons on file
  descriptor 2, raises bare `Exception`, and changes the working directory while it
  compiles.
- BCC attaches XDP over netlink, where a program outlives a killed process and anybody can
  replace it. We attach with BPF_LINK_CREATE (Linux 5.9) through libbpf, which BCC is linked
  against: the program leaves the interface with the last file descriptor of its link, even
  after SIGKILL, and the kernel never lets a link replace another program.
- libbpf 1.x returns -errno; `ctypes.get_errno()` is not needed.
"""

from __future__ import annotations

import ctypes as ct
import errno
import functools
import logging
import os
import struct
import tempfile
from collections.abc import Iterator, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engine.enforce.kernel_headers import kernel_source
from engine.errors import UnavailableError
from engine.paths import bpf_source

_log = logging.getLogger(__name__)

NEEDS_ROOT = "XDP needs root (CAP_BPF and CAP_NET_ADMIN)"

_BPF_XDP = 37  # enum bpf_attach_type, include/uapi/linux/bpf.h
_EXPIRES_NS = struct.Struct("=Q")  # struct ban in bpf/blocker.bpf.c
_BATCH_ENTRIES = 4096


class BlockerProgram:
    """bpf/blocker.bpf.c in the kernel. Closing it frees the maps when no link is left."""

    def __init__(self, functions: Set[str], capacity: int) -> None:
        """Load these XDP functions, with maps for `capacity` bans of each IP version.

        Raises UnavailableError where BCC, kernel headers, capabilities or memory are missing.
        """
        self._libbpf = _libbpf()
        self._module = _load(functions, capacity)

    def close(self) -> None:
        self._module.cleanup()

    def link(self, function: str, interface_index: int, xdp_flags: int) -> int:
        """Attach to an interface; returns the link's file descriptor. Raises OSError."""
        options = _LinkCreateOptions(size=ct.sizeof(_LinkCreateOptions), flags=xdp_flags)
        return _check(
            self._libbpf.bpf_link_create(
                self._fd(function), interface_index, _BPF_XDP, ct.byref(options)
            )
        )

    def unlink(self, link_fd: int) -> None:
        """Detach for every process that holds the link. Fine if the interface is gone."""
        self._libbpf.bpf_link_detach(link_fd)

    def program_id(self, function: str) -> int:
        for line in Path(f"/proc/self/fdinfo/{self._fd(function)}").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "prog_id":
                return int(value)
        raise LookupError(f"the kernel gives {function} no id")

    def put(self, address: bytes, expires_ns: int) -> None:
        """Add or replace a ban. `address` has 4 or 16 bytes in network order."""
        value = _EXPIRES_NS.pack(expires_ns)
        _check(
            self._libbpf.bpf_map_update_elem(self._bans(address), address, value, ct.c_uint64(0))
        )

    def delete(self, address: bytes) -> bool:
        """Remove a ban; False if there was none."""
        result = self._libbpf.bpf_map_delete_elem(self._bans(address), address)
        return result != -errno.ENOENT and _check(result) == 0

    def bans(self) -> Iterator[tuple[bytes, int]]:
        """Each (address, expires_ns) in the maps."""
        yield from self._entries("blocked_ips", 4)
        yield from self._entries("blocked_ips6", 16)

    def outcomes(self) -> list[int]:
        """Packets by `enum outcome` of bpf/blocker.bpf.c, summed over CPUs."""
        table = self._module["outcomes"]
        per_cpu = (ct.c_uint64 * _check(self._libbpf.libbpf_num_possible_cpus()))()
        packets = []
        for outcome in range(table.max_entries):
            key = ct.c_uint32(outcome)
            _check(self._libbpf.bpf_map_lookup_elem(table.map_fd, ct.byref(key), per_cpu))
            packets.append(sum(per_cpu))
        return packets

    def _fd(self, function: str) -> int:
        return int(self._module.funcs[function.encode()].fd)

    def _bans(self, address: bytes) -> int:
        table = {4: "blocked_ips", 16: "blocked_ips6"}[len(address)]
        return int(self._module[table].map_fd)

    def _entries(self, table: str, address_bytes: int) -> Iterator[tuple[bytes, int]]:
        # In batches: walking key by key starts over when the current key vanishes.
        map_fd = self._module[table].map_fd
        addresses = ct.create_string_buffer(address_bytes * _BATCH_ENTRIES)
        expiries = (ct.c_uint64 * _BATCH_ENTRIES)()
        position = ct.c_uint32()
        start = None
        result = 0
        while result != -errno.ENOENT:
            count = ct.c_uint32(_BATCH_ENTRIES)
            result = self._libbpf.bpf_map_lookup_batch(
                map_fd, start, ct.byref(position), addresses, expiries, ct.byref(count), None
            )
            if result != -errno.ENOENT:
                _check(result)
            for i in range(count.value):
                yield addresses.raw[i * address_bytes : (i + 1) * address_bytes], expiries[i]
            start = ct.byref(position)


class _LinkCreateOptions(ct.Structure):
    """struct bpf_link_create_opts of libbpf's bpf.h, as far as XDP needs it."""

    _fields_ = (
        ("size", ct.c_size_t),
        ("flags", ct.c_uint32),
        ("iter_info", ct.c_void_p),
        ("iter_info_len", ct.c_uint32),
        ("target_btf_id", ct.c_uint32),
    )


@functools.cache
def _libbpf() -> ct.CDLL:
    try:
        return ct.CDLL("libbpf.so.1")
    except OSError:
        raise UnavailableError("libbpf is not installed: apt-get install libbpf1") from None


def _check(result: int) -> int:
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result


def _load(functions: Set[str], capacity: int) -> Any:
    """The BCC module with its maps made and these functions accepted by the kernel."""
    try:
        import bcc
    except ModuleNotFoundError:
        raise UnavailableError(
            "python3-bpfcc is not installed: apt-get install python3-bpfcc"
            " linux-headers-$(uname -r)"
        ) from None
    with kernel_source() as headers, _stderr_captured() as complaints:
        try:
            if headers is not None:
                os.environ["BCC_KERNEL_SOURCE"] = str(headers)
            module = bcc.BPF(src_file=str(bpf_source()), cflags=[f"-DBAN_CAPACITY={capacity}"])
            for function in functions:
                module.load_func(function.encode(), bcc.BPF.XDP)
            return module
        except Exception as failure:
            said = complaints.read_text(errors="replace") + str(failure)
            raise _not_loaded(capacity, said) from failure
        finally:
            if headers is not None:
                del os.environ["BCC_KERNEL_SOURCE"]


def _not_loaded(capacity: int, complaints: str) -> UnavailableError:
    _log.debug("BCC said: %s", complaints)
    if os.strerror(errno.EPERM) in complaints or "super-user" in complaints:
        return UnavailableError(NEEDS_ROOT)
    if os.strerror(errno.ENOMEM) in complaints:
        return UnavailableError(f"no memory for the XDP program's maps of {capacity} bans each")
    lines = complaints.splitlines()
    reason = next((line for line in lines if "error" in line.lower()), lines[-1])
    return UnavailableError(f"BCC cannot load {bpf_source()}: {reason}")


@contextmanager
def _stderr_captured() -> Iterator[Path]:
    """File descriptor 2 into a file for a while, since BCC's reasons go nowhere else."""
    saved = os.dup(2)
    with tempfile.NamedTemporaryFile(prefix="btblocker-bcc-") as capture:
        os.dup2(capture.fileno(), 2)
        try:
            yield Path(capture.name)
        finally:
            os.dup2(saved, 2)
            os.close(saved)
