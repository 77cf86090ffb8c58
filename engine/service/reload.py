"""Reloads: new signatures are compiled beside the running ones, and swapped in or refused."""

from __future__ import annotations

import logging
import selectors
from collections.abc import Callable
from pathlib import Path

from engine.certainty import DetectionProfile
from engine.errors import BtblockerError
from engine.service.builder import Build, Built

_log = logging.getLogger(__name__)

_Install = Callable[[Built], None]


class Reloader:
    """Builds RuleSets in a process of its own, one after the other.

    A request during a build is honoured after it: files may have changed meanwhile.
    """

    def __init__(self, selector: selectors.BaseSelector) -> None:
        """The selector's owner calls the `data` of what becomes readable."""
        self.succeeded = 0
        self.failed = 0
        self._selector = selector
        self._build: Build | None = None
        self._next: tuple[Path, DetectionProfile, bool, _Install] | None = None

    def start(
        self, directory: Path, profile: DetectionProfile, for_driver: bool, install: _Install
    ) -> None:
        """Begin to build; `install` gets the new RuleSet, from a later call, if all is well.

        Where `install` raises UnavailableError, the reload is refused.
        """
        if self._build is not None:
            self._next = directory, profile, for_driver, install
            return
        self._build = Build(directory, profile, for_driver=for_driver)
        self._selector.register(self._build, selectors.EVENT_READ, lambda: self._finish(install))

    def succeed(self, signatures: int) -> None:
        """Count and report a reload that is in force."""
        self.succeeded += 1
        _log.info("reloaded: %d signatures in force", signatures)

    def refuse(self, reason: str) -> None:
        """Count and report a reload that changes nothing."""
        self.failed += 1
        _log.error("reload refused, everything stays as it was\n%s", reason)

    def close(self) -> None:
        """Give up a build that is under way."""
        if self._build is not None:
            self._selector.unregister(self._build)
            self._build.end()
            self._build = None

    def _finish(self, install: _Install) -> None:
        assert self._build is not None
        try:
            install(self._build.result())
        except BtblockerError as error:
            self.refuse(str(error))
        finally:
            self.close()
        if self._next is not None:
            following, self._next = self._next, None
            self.start(*following)
