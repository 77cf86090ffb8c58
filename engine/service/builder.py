"""The process that compiles signatures for the daemon.

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
from engine.errors import UnavailableError
from engine.language.diagnostics import SignatureError
from engine.selftest import self_test
from engine.service.channel import Channel, memory_file, start_process
from engine.signatures import load

# Ten thousand signatures take ten seconds; what takes longer than this will never end.
MAX_BUILD_S = 600


@dataclass(frozen=True, slots=True)
class Built:
    """A RuleSet that was compiled and has passed its tests, as `Assembly` takes it."""

    pieces: BinaryIO
    signatures: int


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

    def __init__(self, directory: Path, profile: DetectionProfile) -> None:
        self._process: Popen[bytes]
        self._process, self._channel = start_process("engine.service.builder")
        self._channel.send((directory, profile))

    def fileno(self) -> int:
        """Readable when `result` need not wait."""
        return self._channel.fileno()

    def result(self) -> Built:
        """What has been built. Waits for it.

        Raises SignatureError for what is wrong with the signatures, UnavailableError when the
        process has died of something else.
        """
        try:
            done, file = self._channel.receive()
        except EOFError:
            raise UnavailableError(self._why_it_died()) from None
        assert isinstance(done, _Done)
        assert file is not None
        if done.signatures is None:
            with file:
                raise SignatureError(pickle.load(file))
        return Built(file, done.signatures)

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
    (directory, profile), _ = channel.receive()
    with memory_file("btblocker-signatures") as file:
        try:
            ruleset = build_tested(directory, profile)
        except SignatureError as error:
            pickle.dump(error.diagnostics, file)
            done = _Done(None)
        else:
            write_pieces(ruleset.without_sources(), file)
            done = _Done(len(ruleset.signatures))
        file.flush()
        channel.send(done, file)
