"""How one signature will be decided: what triggers it, and what is left to ask then."""

from __future__ import annotations

from dataclasses import dataclass

from engine.compiler.clauses import Clauses, find_clauses
from engine.compiler.expression import HsExpression, placed
from engine.compiler.normal import normalise
from engine.compiler.predicate import placed_patterns
from engine.compiler.search import RefusedError, Searches, find_searches
from engine.compiler.trigger import find_trigger
from engine.language import syntax
from engine.language.allowances import settle
from engine.language.diagnostics import Diagnostic
from engine.language.document import Signature
from engine.language.lists import Lists
from engine.language.parser import walk

# Below this an innocent packet runs Python too often; a pattern of three bytes has 24.
WEAK_TRIGGER_BITS = 24


@dataclass(frozen=True, slots=True)
class Plan:
    """A signature on its way to a rule.

    `trigger` are the expressions of which one must match, none where it runs on every packet;
    `clauses` decide by themselves, and then there is no predicate; `expressions` are all that
    the database must have; `searches` are what is looked for besides.
    """

    signature: Signature
    condition: syntax.Expression
    trigger: frozenset[HsExpression]
    clauses: Clauses | None
    expressions: tuple[HsExpression, ...]
    searches: Searches

    @property
    def reasons(self) -> list[str]:
        """Why patterns do not decide it, in the author's words; empty where they do."""
        if self.clauses is not None:
            return []
        if self.signature.always:
            return ["prefilter: none"]
        sought = [f"where {name} begins" for name in self.searches.patterns]
        found = dict.fromkeys([*_reasons(self.condition), *sought])
        return list(found) or ["too many combinations"]


def _reasons(condition: syntax.Expression) -> list[str]:
    return [node.name for node in walk(condition) if isinstance(node, syntax.Term)]


def make_plan(
    signature: Signature, diagnostics: list[Diagnostic], lists: Lists | None = None
) -> Plan | None:
    """Plan a checked signature; None, and what is wrong, where it cannot be decided.

    `lists` are what the condition asks for by `@name`.
    """
    found: list[Diagnostic] = []
    plan = _plan(signature, found, lists)
    diagnostics += settle(signature, found, ["S102"])
    return plan


def _plan(signature: Signature, diagnostics: list[Diagnostic], lists: Lists | None) -> Plan | None:
    condition = normalise(signature.condition)
    trigger = find_trigger(condition, signature.patterns, lists)
    try:
        searches = find_searches(condition, signature.patterns)
    except RefusedError as error:
        diagnostics += [refused(signature, *refusal) for refusal in error.refusals]
        return None

    def report(code: str, message: str, hint: str) -> None:
        span = signature.condition.span
        diagnostics.append(Diagnostic(code, message, signature.source, span, hint))

    placements = [placed(*p) for p in placed_patterns(condition, signature.patterns)]
    if signature.always:
        return Plan(signature, condition, frozenset(), None, tuple(placements), searches)
    if trigger is None:
        report(
            "S020",
            "nothing in the bytes must match for this to be true",
            "require a pattern or bytes at a fixed offset, or say `prefilter: none`",
        )
        return None
    clauses = find_clauses(condition, signature.patterns)
    if not trigger.expressions or clauses == ():
        hint = "it asks two things of a byte, or too much of one"
        hint = "it denies what it asks for" if trigger.expressions else hint
        report("S020", "this can never be true", hint)
        return None
    if trigger.bits < WEAK_TRIGGER_BITS:
        report(
            "S102",
            f"the trigger pins only {trigger.bits:.0f} bits",
            "a longer pattern spares innocent packets",
        )
    expressions = (*trigger.expressions, *placements)
    return Plan(signature, condition, trigger.expressions, clauses, expressions, searches)


def refused(
    signature: Signature, refusal: syntax.Pattern | syntax.RegexBody, reason: str
) -> Diagnostic:
    """What Hyperscan has against a pattern, or against what a text is to match."""
    reason, hint = _IN_OUR_WORDS.get(reason, (reason, ""))
    message = f"`{refusal.name}`: {reason}" if isinstance(refusal, syntax.Pattern) else reason
    return Diagnostic("S019", message, signature.source, refusal.span, hint)


# Reasons of Hyperscan's that its own words do not make plain.
_IN_OUR_WORDS = {
    "Pattern is too large.": (
        "this is too large to match, or to tell where it begins",
        "shorter repeats are not; `$a` and `$a at 4` ask for less than a count or a computed place",
    ),
    "Pattern matches empty buffer; use HS_FLAG_ALLOWEMPTY to enable support.": (
        "this matches where nothing stands",
        "require at least one byte",
    ),
    "Zero-width assertions are not supported.": (
        "what does not take up bytes (`(?=`, `(?!`, `(?<`) is not supported",
        "say it in `when`, with another pattern",
    ),
}
