"""Reloads: a new RuleSet is built by another process and swapped in between two packets.

Building on a thread would not do: it would hold Python's interpreter lock for milliseconds
at a time while packets wait.
"""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path

from engine.certainty import DetectionProfile
from engine.compiler.ruleset import RuleSet
from engine.language.diagnostics import SignatureError
from engine.selftest import self_test
from engine.signatures import load

_log = logging.getLogger(__name__)


def build_tested(directory: Path, profile: DetectionProfile) -> RuleSet:
    """Compile a folder and run its signatures' tests. Raises SignatureError."""
    ruleset = load(directory, profile=profile)
    if failures := self_test(ruleset):
        raise SignatureError(failures)
    return ruleset


def _build_elsewhere(directory: Path, profile: DetectionProfile) -> RuleSet | str:
    """`build_tested` for another process: the RuleSet, or the diagnostics as text."""
    try:
        return build_tested(directory, profile)
    except SignatureError as error:
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
        self._next: tuple[Path, DetectionProfile, Callable[[RuleSet], None]] | None = None

    def start(
        self, directory: Path, profile: DetectionProfile, install: Callable[[RuleSet], None]
    ) -> None:
        """Begin to build; `install` gets the new RuleSet, on the main thread, if all is well."""
        if self._executor is not None:
            self._next = directory, profile, install
            return
        # Spawned, not forked: the parent holds a queue, BPF maps and threads.
        self._executor = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        future = self._executor.submit(_build_elsewhere, directory, profile)
        future.add_done_callback(lambda done: self._post(lambda: self._finish(done, install)))

    def refuse(self, reason: str) -> None:
        """Count and report a reload that changes nothing."""
        self.failed += 1
        _log.error("reload refused, everything stays as it was\n%s", reason)

    def close(self) -> None:
        """Give up a build that is under way."""
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)

    def _finish(self, future: Future[RuleSet | str], install: Callable[[RuleSet], None]) -> None:
        """Install the RuleSet, or say why not. Runs on the main thread."""
        assert self._executor is not None
        self._executor.shutdown(wait=False)
        self._executor = None
        try:
            result = future.result()
        except Exception as error:  # the builder died: out of memory, killed
            result = f"the building process failed: {error!r}"
        if isinstance(result, RuleSet):
            install(result)
            self.succeeded += 1
            _log.info("reloaded: %d signatures in force", len(result.signatures))
        else:
            self.refuse(result)
        if self._next is not None:
            following, self._next = self._next, None
            self.start(*following)
