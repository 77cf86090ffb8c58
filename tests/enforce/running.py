"""The XDP program run by the kernel on packets of a test, without an interface."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from engine.compiler.driver import DriverSignature
from engine.enforce.bpf import BlockerProgram
from engine.enforce.program import fit
from tools.bench.kernel_run import DROP, PASS, kernel_run, open_program

ETHERNET, IP = "btblocker_eth", "btblocker_ip"


class Driver:
    """A loaded program with signatures in it, whose bans end at once unless told otherwise."""

    def __init__(self, program: BlockerProgram) -> None:
        self.program = program

    def drops(self, packet: bytes, function: str = IP) -> bool:
        """Give it a packet: IP for the function of links without an Ethernet header."""
        fd = open_program(self.program.program_id(function))
        try:
            action = kernel_run(fd, packet).action
        finally:
            os.close(fd)
        assert action in (DROP, PASS)
        return action == DROP

    def forget_bans(self) -> None:
        """Lift all bans: they end at once, but by a clock that moves every few milliseconds."""
        for ban in list(self.program.bans()):
            self.program.delete(ban.address)


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
