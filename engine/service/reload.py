"""Reloads: a new RuleSet is built by another process and swapped in between two packets.

Building on a thread would not do: it would hold Python's interpreter lock for milliseconds
at a time while packets wait. For the same reason the main thread takes the result in by small
pieces, with packets in between.
"""

from __future__ import annotations

import gc
import logging
import multiprocessing
import selectors
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from engine.compiler.pieces import Assembly, pieces
from engine.compiler.ruleset import RuleSet
from engine.language.diagnostics import SignatureError
from engine.selftest import self_test
from engine.signatures import load

# Ten thousand signatures take ten seconds; what takes longer than this will never end.
MAX_BUILD_S = 600

_log = logging.getLogger(__name__)


def build_tested(directory: Path) -> RuleSet:
    """Compile a folder and run its signatures' tests: what inspects, without its sources.

    Raises SignatureError.
    """
    ruleset = load(directory)
    if failures := self_test(ruleset):
        raise SignatureError(failures)
    return ruleset.without_sources()


def _build(directory: Path, result: Connection) -> None:
    """Send a RuleSet in pieces, or its diagnostics as text. Runs in a process of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is the parent's to answer
    signal.alarm(MAX_BUILD_S)
    try:
        ruleset = build_tested(directory)
    except SignatureError as error:
        result.send_bytes(str(error).encode())
        return
    result.send_bytes(b"")  # no diagnostics
    for piece in pieces(ruleset):
        result.send_bytes(piece)


class Reloader:
    """Builds RuleSets in a process of its own, and takes them in as the selector allows.

    A request during a build is honoured after it: files may have changed meanwhile.
    """

    def __init__(self, selector: selectors.BaseSelector) -> None:
        """The selector's owner calls the `data` of what becomes readable."""
        self.succeeded = 0
        self.failed = 0
        self._selector = selector
        self._build: _Build | None = None
        self._next: tuple[Path, Callable[[RuleSet], None]] | None = None

    def start(self, directory: Path, install: Callable[[RuleSet], None]) -> None:
        """Begin to build; `install` gets the new RuleSet, from a later call, if all is well."""
        if self._build is not None:
            self._next = directory, install
            return
        self._build = _Build(directory)

        def take_in() -> None:
            assert self._build is not None
            outcome = self._build.next_piece()
            if outcome is not None:
                self._finish(outcome, install)

        self._selector.register(self._build.result, selectors.EVENT_READ, take_in)

    def refuse(self, reason: str) -> None:
        """Count and report a reload that changes nothing."""
        self.failed += 1
        _log.error("reload refused, everything stays as it was\n%s", reason)

    def close(self) -> None:
        """Give up a build that is under way."""
        if self._build is not None:
            self._selector.unregister(self._build.result)
            self._build.end()
            self._build = None

    def _finish(self, outcome: RuleSet | str, install: Callable[[RuleSet], None]) -> None:
        """Install the RuleSet, or say why not."""
        self.close()
        if isinstance(outcome, RuleSet):
            install(outcome)
            # It has come to stay, so no search for garbage need look through its many objects.
            gc.freeze()
            self.succeeded += 1
            _log.info("reloaded: %d signatures in force", len(outcome.statistics.signatures))
        else:
            self.refuse(outcome)
        if self._next is not None:
            following, self._next = self._next, None
            self.start(*following)


class _Build:
    """A build under way: its process, and what has come of its result."""

    def __init__(self, directory: Path) -> None:
        # Spawned, not forked: the parent holds a queue, BPF maps and threads.
        context = multiprocessing.get_context("spawn")
        self.result, theirs = context.Pipe(duplex=False)
        self._process: BaseProcess = context.Process(
            target=_build, args=(directory, theirs), daemon=True
        )
        self._process.start()
        theirs.close()
        self._assembly: Assembly | None = None

    def next_piece(self) -> RuleSet | str | None:
        """Take in what has come: gives the RuleSet, or why there is none, when that is known."""
        try:
            piece = self.result.recv_bytes()
        except (EOFError, OSError):
            return self._why_it_died()
        if self._assembly is not None:
            return self._assembly.add(piece)
        if piece:
            return piece.decode()
        self._assembly = Assembly()
        return None

    def end(self) -> None:
        """End the process, whatever it is doing."""
        self.result.close()
        self._process.kill()
        self._process.join()

    def _why_it_died(self) -> str:
        self._process.join()
        code = self._process.exitcode
        if code == -signal.SIGALRM:
            return f"the signatures were not compiled within {MAX_BUILD_S} s"
        return f"the process that builds the new set ended early (exit code {code})"
