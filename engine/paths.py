"""Where the files that are not Python live: beside the checkout, or under PREFIX/share."""

from __future__ import annotations

import sys
from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parent.parent
_INSTALLED = Path(sys.prefix) / "share" / "btblocker"


def _asset(name: str) -> Path:
    in_checkout = _CHECKOUT / name
    # Resolved: the Debian package has a link to /etc there, and /etc is what its operators know.
    return in_checkout if in_checkout.exists() else (_INSTALLED / name).resolve()


def shipped_signatures() -> Path:
    """The folder of signatures that come with btblocker."""
    return _asset("signatures")


def bpf_source() -> Path:
    """The C source of the XDP program."""
    return _asset("bpf") / "blocker.bpf.c"
