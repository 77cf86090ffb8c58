"""Reloads: new signatures are compiled beside the running ones, and swapped in or refused."""

from __future__ import annotations

import selectors
from collections.abc import Callable
from pathlib import Path

from engine.certainty import DetectionProfile
from engine.errors import BtblockerError
from engine.service.builder import Build, Built

_Request = tuple[Path, DetectionProfile, bool, Callable[[Built], None], Callable[[str], None]]


class Reloader:
    """Builds RuleSets in a process of its own, one after the other.

    A request during a build is honoured after it: files may have changed meanwhile.
    """

    def __init__(self, selector: selectors.BaseSelector) -> None:
        """The selector's owner calls the `data` of what becomes readable."""
        self._selector = selector
        self._build: Build | None = None
        self._next: _Request | None = None

    def start(
        self,
        directory: Path,
        profile: DetectionProfile,
        for_driver: bool,
        install: Callable[[Built], None],
        refuse: Callable[[str], None],
    ) -> None:
        """Begin to build. A later call gives `install` the new RuleSet, or `refuse` the reason.

        So it does where `install` raises UnavailableError.
        """
        if self._build is not None:
            self._next = directory, profile, for_driver, install, refuse
            return
        self._build = Build(directory, profile, for_driver=for_driver)
        self._selector.register(
            self._build, selectors.EVENT_READ, lambda: self._finish(install, refuse)
        )

    def close(self) -> None:
        """Give up a build that is under way."""
        if self._build is not None:
            self._selector.unregister(self._build)
            self._build.end()
            self._build = None

    def _finish(self, install: Callable[[Built], None], refuse: Callable[[str], None]) -> None:
        assert self._build is not None
        try:
            install(self._build.result())
        except BtblockerError as error:
            refuse(str(error))
        finally:
            self.close()
        if self._next is not None:
            following, self._next = self._next, None
            self.start(*following)
