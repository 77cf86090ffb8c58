"""Reloads: a new RuleSet is built by another process and swapped in between two packets.

Building on a thread would not do: it would hold Python's interpreter lock for milliseconds
at a time while packets wait.
"""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from engine.compiler.ruleset import RuleSet
from engine.enforce.program import XdpProgram, build_program
from engine.errors import UnavailableError
from engine.language.diagnostics import Diagnostic, SignatureError
from engine.selftest import self_test
from engine.signatures import load

_log = logging.getLogger(__name__)


def build_tested(directory: Path) -> RuleSet:
    """Compile a folder and run its signatures' tests. Raises SignatureError."""
    ruleset = load(directory)
    if failures := self_test(ruleset):
        raise SignatureError(failures)
    return ruleset


@dataclass(frozen=True, slots=True)
class Build:
    """What a reload puts in force. `driver` is the XDP program, where it decides signatures.

    `warnings` are about what the driver does not take.
    """

    ruleset: RuleSet
    driver: XdpProgram | None = None
    warnings: tuple[Diagnostic, ...] = ()


def _build_elsewhere(directory: Path, for_driver: bool) -> Build | str:
    """Build for another process; gives why not as text."""
    try:
        ruleset = build_tested(directory)
        if not for_driver:
            return Build(ruleset)
        program, warnings = build_program(ruleset.signatures)
        return Build(ruleset, program, tuple(warnings))
    except (SignatureError, UnavailableError) as error:
        return str(error)


class Reloader:
    """Builds RuleSets in a process of its own and hands each over by `post`.

    A request during a build is honoured after it: files may have changed meanwhile.
    """

    def __init__(self, post: Callable[[Callable[[], None]], None]) -> None:
        self.succeeded = 0
        self.failed = 0
        self._post = post
        self._executor: ProcessPoolExecutor | None = None
        self._next: tuple[Path, bool, Callable[[Build], None]] | None = None

    def start(self, directory: Path, for_driver: bool, install: Callable[[Build], None]) -> None:
        """Begin to build; `install` gets what was built, on the main thread, if all is well.

        Where it raises UnavailableError, nothing must have changed: the reload is refused.
        """
        if self._executor is not None:
            self._next = directory, for_driver, install
            return
        # Spawned, not forked: the parent holds a queue, BPF maps and threads.
        self._executor = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        future = self._executor.submit(_build_elsewhere, directory, for_driver)
        future.add_done_callback(lambda done: self._post(lambda: self._finish(done, install)))

    def refuse(self, reason: str) -> None:
        """Count and report a reload that changes nothing."""
        self.failed += 1
        _log.error("reload refused, everything stays as it was\n%s", reason)

    def close(self) -> None:
        """Give up a build that is under way."""
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)

    def _finish(self, future: Future[Build | str], install: Callable[[Build], None]) -> None:
        """Install what was built, or say why not. Runs on the main thread."""
        assert self._executor is not None
        self._executor.shutdown(wait=False)
        self._executor = None
        try:
            result = future.result()
        except Exception as error:  # the builder died: out of memory, killed
            result = f"the building process failed: {error!r}"
        try:
            if isinstance(result, Build):
                install(result)
                self.succeeded += 1
                _log.info("reloaded: %d signatures in force", len(result.ruleset.signatures))
            else:
                self.refuse(result)
        except UnavailableError as error:
            self.refuse(str(error))
        if self._next is not None:
            following, self._next = self._next, None
            self.start(*following)
