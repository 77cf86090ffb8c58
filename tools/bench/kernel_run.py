"""An XDP program run by the kernel on one packet, without an interface: BPF_PROG_TEST_RUN."""

from __future__ import annotations

import ctypes as ct
import os
import struct
from typing import NamedTuple

from engine.enforce.libbpf import ProgLoadOptions, check, libbpf
from engine.errors import UnavailableError

DROP, PASS = 1, 2  # enum xdp_action
# The kernel takes no shorter packet.
MIN_PACKET_B = 14

_PROG_TYPE_XDP = 6
# struct bpf_insn: the return value is PASS; exit.
_EMPTY = struct.pack("=BBhi", 0xB7, 0, 0, PASS) + struct.pack("=BBhi", 0x95, 0, 0, 0)


class _TestRunOptions(ct.Structure):
    """struct bpf_test_run_opts of libbpf's bpf.h."""

    _fields_ = (
        ("size", ct.c_size_t),
        ("data_in", ct.c_char_p),
        ("data_out", ct.c_void_p),
        ("data_size_in", ct.c_uint32),
        ("data_size_out", ct.c_uint32),
        ("ctx_in", ct.c_void_p),
        ("ctx_out", ct.c_void_p),
        ("ctx_size_in", ct.c_uint32),
        ("ctx_size_out", ct.c_uint32),
        ("retval", ct.c_uint32),
        ("repeat", ct.c_int),
        ("duration", ct.c_uint32),
        ("flags", ct.c_uint32),
        ("cpu", ct.c_uint32),
        ("batch_size", ct.c_uint32),
    )


class KernelRun(NamedTuple):
    """What the program did with the packet, and nanoseconds a run, on average."""

    action: int
    ns: int


def kernel_run(program_fd: int, packet: bytes, repeat: int = 1) -> KernelRun:
    """Run a loaded program. Raises OSError."""
    options = _TestRunOptions(
        size=ct.sizeof(_TestRunOptions),
        data_in=packet,
        data_size_in=len(packet),
        repeat=repeat,
    )
    check(libbpf().bpf_prog_test_run_opts(program_fd, ct.byref(options)))
    return KernelRun(options.retval, options.duration)


def open_program(program_id: int) -> int:
    """A file descriptor of a loaded program, to close. Raises OSError."""
    return check(libbpf().bpf_prog_get_fd_by_id(program_id))


def load_empty_program() -> int:
    """A program that lets everything pass: what entering and leaving one costs here."""
    options = ProgLoadOptions(size=ct.sizeof(ProgLoadOptions))
    fd = libbpf().bpf_prog_load(
        _PROG_TYPE_XDP, b"empty", b"GPL", _EMPTY, ct.c_size_t(2), ct.byref(options)
    )
    if fd < 0:
        raise UnavailableError(f"the kernel loads no XDP program: {os.strerror(-fd)}")
    return int(fd)
