"""How sure a signature is of what it says, and how sure an operator wants it to be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

Certainty = Literal["certain", "likely", "guess"]
DetectionProfile = Literal["strict", "balanced", "plain"]

# What each may judge packets by.
PROFILES: Final[Mapping[DetectionProfile, frozenset[Certainty]]] = {
    "strict": frozenset({"certain", "likely", "guess"}),
    "balanced": frozenset({"certain", "likely"}),
    "plain": frozenset({"certain"}),
}
DEFAULT_PROFILE: Final = "balanced"
