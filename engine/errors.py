"""The errors a user can meet. Each carries one line that says what, where and what to do."""

from __future__ import annotations


class BtblockerError(Exception):
    """Ends a command with one line on standard error and `exit_code`."""

    exit_code = 1


class InputError(BtblockerError):
    """What the user gave is wrong: a flag, a file, an interface, a queue number."""

    exit_code = 2


class UnavailableError(BtblockerError):
    """What the user asked for is right, but this machine cannot do it now."""

    exit_code = 1
