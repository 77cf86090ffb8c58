"""The turns of a flow together with the rules that may still become true of them."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

from engine.compiler.ruleset import Bank, Rule
from engine.fields.turns import Turns


class FollowedTurns(Turns):
    """Turns, and the `rules` that wait for them: fewer and fewer, none in the end."""

    __slots__ = ("_bank", "rules")

    def __init__(self) -> None:
        super().__init__()
        self.rules: Sequence[Rule] = ()
        # An idle flow must not keep the databases of a RuleSet that a reload has replaced.
        self._bank: weakref.ref[Bank] | None = None

    def asked_by(self, bank: Bank) -> Sequence[Rule]:
        """The rules to ask: after a reload all of the new ones, which know nothing yet."""
        if self._bank is None or self._bank() is not bank:
            self._bank = weakref.ref(bank)
            self.rules = bank.rules
        return self.rules


NOT_BEGUN = FollowedTurns()
"""Of a flow that has not begun to speak."""
