"""The process that compiles signatures for the daemon, for workers and for the driver.

Not a thread: it would hold Python's interpreter lock while requests wait, and what compiling
thousands of signatures has used would never be given back.
"""

from __future__ import annotations

import pickle
import signal
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import BinaryIO

from engine.certainty import DetectionProfile
from engine.compiler.pieces import write_pieces
from engine.compiler.ruleset import RuleSet
from engine.enforce.program import XdpProgram, build_program
from engine.errors import UnavailableError
from engine.language.diagnostics import SignatureError
from engine.privileges import BPF, Capability, drop_privileges
from engine.selftest import self_test
from engine.service.channel import Channel, memory_file, start_process
from engine.service.channel import load as load_received
from engine.signatures import load

# Ten thousand signatures take ten seconds; what takes longer than this will never end.
MAX_BUILD_S = 600


@dataclass(frozen=True, slots=True)
class DriverBuilt:
    """The XDP program with signatures; None, and why, where this machine cannot build it.

    `warnings` say what the kernel does not take.
    """

    program: XdpProgram | None
    warnings: tuple[str, ...] = ()
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Built:
    """A RuleSet that was compiled and has passed its tests, as `Assembly` takes it.

    `driver` is there if it was asked for.
    """

    pieces: BinaryIO
    signatures: int
    driver: DriverBuilt | None = None


@dataclass(frozen=True, slots=True)
class _Done:
    """What the process says at its end: how many signatures, None if they were refused."""

    signatures: int | None


def build_tested(directory: Path, profile: DetectionProfile) -> RuleSet:
    """Compile a folder and run its signatures' tests. Raises SignatureError."""
    ruleset = load(directory, profile=profile)
    if failures := self_test(ruleset):
        raise SignatureError(failures)
    return ruleset


class Build:
    """A build under way."""

    def __init__(
        self, directory: Path, profile: DetectionProfile, *, for_driver: bool = False
    ) -> None:
        """Begin; `for_driver` asks for the XDP program with these signatures as well."""
        self._process: Popen[bytes]
        self._process, self._channel = start_process("engine.service.builder")
        self._channel.send((directory, profile, for_driver))
        self._for_driver = for_driver

    def fileno(self) -> int:
        """Readable when `result` need not wait."""
        return self._channel.fileno()

    def result(self) -> Built:
        """What has been built. Waits for it.

        Raises SignatureError for what is wrong with the signatures, UnavailableError when the
        process has died of something else.
        """
        done, file = self._receive()
        if done.signatures is None:
            with file:
                raise SignatureError(load_received(file))
        driver = None
        if self._for_driver:
            with self._receive()[1] as built:
                driver = load_received(built)
        return Built(file, done.signatures, driver)

    def _receive(self) -> tuple[_Done, BinaryIO]:
        try:
            done, file = self._channel.receive()
        except EOFError:
            raise UnavailableError(self._why_it_died()) from None
        assert isinstance(done, _Done)
        assert file is not None
        return done, file

    def end(self) -> None:
        """End the process, whatever it is doing."""
        self._channel.close()
        self._process.kill()
        self._process.wait()

    def _why_it_died(self) -> str:
        code = self._process.wait()
        if code == -signal.SIGALRM:
            return f"the signatures were not compiled within {MAX_BUILD_S} s"
        return f"the process that compiles the signatures has ended early (exit code {code})"


def main() -> None:
    """Build what the parent asks for, and send it."""
    # The parent answers these, and ends us when it has to.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.alarm(MAX_BUILD_S)
    channel = Channel.to_parent()
    (directory, profile, for_driver), _ = channel.receive()
    # Signatures may be root's alone to read. The driver's program is tried on the kernel.
    needs = {Capability.DAC_READ_SEARCH}
    drop_privileges(needs | BPF | {Capability.NET_ADMIN} if for_driver else needs, inherited=True)
    with memory_file("btblocker-signatures") as file:
        try:
            ruleset = build_tested(directory, profile)
        except SignatureError as error:
            pickle.dump(error.diagnostics, file)
            done = _Done(None)
        else:
            # First what takes seconds: the daemon waits for both from the first message on.
            driver = _built_for_driver(ruleset) if for_driver else None
            write_pieces(ruleset.without_sources(), file)
            done = _Done(len(ruleset.signatures))
        file.flush()
        channel.send(done, file)
    if done.signatures is not None and driver is not None:
        with memory_file("btblocker-driver") as file:
            pickle.dump(driver, file)
            file.flush()
            channel.send(done, file)


def _built_for_driver(ruleset: RuleSet) -> DriverBuilt:
    try:
        program, warnings = build_program(ruleset.signatures)
    except UnavailableError as error:
        return DriverBuilt(None, failure=str(error))
    return DriverBuilt(program, tuple(map(str, warnings)))
