"""The XDP program run by the kernel on packets of a test, without an interface."""

from __future__ import annotations

import ctypes as ct
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from engine.compiler.driver import DriverSignature
from engine.enforce.bpf import BlockerProgram
from engine.enforce.program import fit

ETHERNET, IP = "btblocker_eth", "btblocker_ip"
DROP, PASS = 1, 2  # enum xdp_action

_libbpf = ct.CDLL("libbpf.so.1")


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


class Driver:
    """A loaded program with signatures in it, whose bans end at once unless told otherwise."""

    def __init__(self, program: BlockerProgram) -> None:
        self.program = program

    def drops(self, packet: bytes, function: str = IP) -> bool:
        """Give it a packet: IP for the function of links without an Ethernet header."""
        fd = _libbpf.bpf_prog_get_fd_by_id(self.program.program_id(function))
        try:
            options = _TestRunOptions(
                size=ct.sizeof(_TestRunOptions), data_in=packet, data_size_in=len(packet), repeat=1
            )
            result = _libbpf.bpf_prog_test_run_opts(fd, ct.byref(options))
        finally:
            os.close(fd)
        assert result == 0, os.strerror(-result)
        assert options.retval in (DROP, PASS)
        return bool(options.retval == DROP)


@contextmanager
def driver(signatures: Sequence[DriverSignature], ban_ns: int = 1) -> Iterator[Driver]:
    """Load the program with these signatures, all of which the kernel must take."""
    built, refused = fit(signatures, 1000)
    assert refused == {}
    program = BlockerProgram(built.bytecode)
    try:
        program.set_ban_duration(ban_ns)
        yield Driver(program)
    finally:
        program.close()
