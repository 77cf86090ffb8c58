"""The log on standard error, of the daemon and of every process that works for it."""

from __future__ import annotations

import logging
import os
import sys


def set_up_logging(level: str) -> None:
    """Log to standard error, with times unless a journal adds its own."""
    under_journal = "JOURNAL_STREAM" in os.environ
    logging.basicConfig(
        stream=sys.stderr,
        level=level,
        format="%(levelname)s %(message)s"
        if under_journal
        else "%(asctime)s %(levelname)s %(message)s",
    )
