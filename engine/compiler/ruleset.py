"""The RuleSet: signatures compiled into databases and predicates, immutable once built."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from engine.compiler.database import Database, ExpressionError
from engine.compiler.expression import HsExpression, placed
from engine.compiler.normal import normalise
from engine.compiler.predicate import Predicate, compile_predicate, placed_patterns
from engine.compiler.trigger import find_trigger
from engine.fields import Context
from engine.language import syntax
from engine.language.diagnostics import Diagnostic, SignatureError, has_errors
from engine.language.document import Signature
from engine.language.form import Then

# Below this an innocent packet runs Python too often; a pattern of three bytes has 24.
WEAK_TRIGGER_BITS = 24


@dataclass(frozen=True, slots=True)
class Rule:
    """A signature ready to run: what names it, what decides it, what follows.

    Without a predicate the match of its trigger is the answer.
    """

    id: str
    rev: int
    then: Then
    predicate: Predicate | None


@dataclass(frozen=True, slots=True)
class _Plan:
    """A signature on its way to a rule."""

    signature: Signature
    condition: syntax.Expression
    trigger: frozenset[HsExpression]
    expressions: tuple[HsExpression, ...]

    @property
    def decided_by_trigger(self) -> bool:
        return not self.signature.always and _is_alternative(self.condition)


_BUFFERS = (
    ("udp", "packet"),
    ("tcp", "stream"),
    ("tcp", "packet"),
    ("udp", "flow"),
    ("tcp", "flow"),
)
# Transport, what is inspected, enabled: signatures of one kind share a bank.
_Kind = tuple[str, str, bool]


class Bank:
    """The rules for one kind of buffer: one database, and the rules behind each expression.

    `database.scan(payload)` gives the ids of the expressions that match: none, for innocent
    packets. When there are some, or when `needs_every_packet` because a rule has no trigger,
    `decide` must run. `beyond_triggers`: something is to be done where none matched, here or for
    the flow.
    """

    def __init__(self, plans: Sequence[_Plan], *, followed: bool) -> None:
        """Compile; `followed` says whether there are rules for the flows of these buffers.

        Raises ExpressionError; its positions count in `expressions(plans)`.
        """
        expressions = self.expressions(plans)
        ids = {expression: position for position, expression in enumerate(expressions)}
        self.database = Database(expressions)
        self._triggered: list[list[int]] = [[] for _ in expressions]
        self._always: list[int] = []
        rules = []
        for position, plan in enumerate(plans):
            signature = plan.signature
            predicate = None
            if not plan.decided_by_trigger:
                predicate = compile_predicate(signature.id, plan.condition, signature.patterns, ids)
            rules.append(Rule(signature.id, signature.rev, signature.then, predicate))
            if signature.always:
                self._always.append(position)
            else:
                for expression in plan.trigger:
                    self._triggered[ids[expression]].append(position)
        self.rules = tuple(rules)
        self.ids = frozenset(rule.id for rule in rules)
        self.needs_every_packet = bool(self._always)
        self.beyond_triggers = self.needs_every_packet or followed

    @staticmethod
    def expressions(plans: Sequence[_Plan]) -> list[HsExpression]:
        """The distinct expressions of the plans, in the order that gives them their ids."""
        distinct: dict[HsExpression, None] = {}
        for plan in plans:
            distinct.update(dict.fromkeys(plan.expressions))
        return list(distinct)

    def candidates(self, hits: Sequence[int]) -> list[Rule]:
        """The rules to be asked about a buffer, given what its scan matched."""
        positions = set(self._always)
        for hit in hits:
            positions.update(self._triggered[hit])
        return [self.rules[position] for position in sorted(positions)]

    def decide(self, hits: Sequence[int], context: Context) -> list[Rule]:
        """The rules that are true for a buffer, given what its scan matched."""
        return [
            rule
            for rule in self.candidates(hits)
            if rule.predicate is None or rule.predicate.when(context, hits)
        ]


class RuleSet:
    """What packets are inspected with. Never changes: a reload builds another one.

    It can be pickled, compiled form and all.

    `udp` holds the rules for datagrams, `tcp_stream` those for the reassembled start of each
    direction, `tcp_packet` those for single segments; `udp_flow` and `tcp_flow` those for the
    turns of flows. With `tcp_by_stream` nothing but `tcp_stream` is of interest for a segment.
    All hold the enabled signatures only; the `disabled` ones are compiled into banks of their
    own, where their tests run.
    """

    def __init__(
        self, signatures: Sequence[Signature], warnings: Sequence[Diagnostic] = ()
    ) -> None:
        """Compile checked signatures. Raises SignatureError with every diagnostic.

        `warnings` are those found so far, kept with the ones found here.
        """
        diagnostics = list(warnings)
        plans: dict[_Kind, list[_Plan]] = {
            (transport, inspect, enabled): []
            for transport, inspect in _BUFFERS
            for enabled in (True, False)
        }
        for signature in signatures:
            plan = _plan(signature, diagnostics)
            if plan is not None:
                plans[_kind(signature)].append(plan)
        banks = {
            kind: _bank(of_kind, diagnostics, followed=bool(plans[kind[0], "flow", kind[2]]))
            for kind, of_kind in plans.items()
        }
        if has_errors(diagnostics):
            raise SignatureError(diagnostics)
        self.signatures = tuple(s for s in signatures if s.enabled)
        self.disabled = tuple(s for s in signatures if not s.enabled)
        self.warnings = tuple(diagnostics)
        self._hold(banks)

    def _hold(self, banks: Mapping[_Kind, Bank]) -> None:
        self._banks = banks
        self.udp = banks["udp", "packet", True]
        self.tcp_stream = banks["tcp", "stream", True]
        self.tcp_packet = banks["tcp", "packet", True]
        self.udp_flow = banks["udp", "flow", True]
        self.tcp_flow = banks["tcp", "flow", True]
        self.tcp_by_stream = not self.tcp_packet.rules and not self.tcp_flow.rules

    def bank_of(self, signature: Signature) -> Bank:
        """The rules among which a signature's is."""
        return self._banks[_kind(signature)]

    def with_banks(self, change: Callable[[Bank], Bank]) -> RuleSet:
        """A copy with every bank changed: how tools watch the rules at work."""
        other = copy.copy(self)
        other._hold({kind: change(bank) for kind, bank in self._banks.items()})
        return other


def _kind(signature: Signature) -> _Kind:
    return signature.transport, signature.inspect, signature.enabled


def _plan(signature: Signature, diagnostics: list[Diagnostic]) -> _Plan | None:
    condition = normalise(signature.condition)
    trigger = find_trigger(condition, signature.patterns)

    def report(code: str, message: str, hint: str) -> None:
        span = signature.condition.span
        diagnostics.append(Diagnostic(code, message, signature.source, span, hint))

    if signature.always:
        return _Plan(
            signature,
            condition,
            frozenset(),
            tuple(_placements(signature, condition)),
        )
    if trigger is None:
        report(
            "S020",
            "nothing in the bytes must match for this to be true",
            "require a pattern or bytes at a fixed offset, or say `prefilter: none`",
        )
        return None
    if not trigger.expressions:
        report("S020", "this can never be true", "it asks two things of a byte, or too much of one")
        return None
    if trigger.bits < WEAK_TRIGGER_BITS:
        report(
            "S102",
            f"the trigger pins only {trigger.bits:.0f} bits",
            "a longer pattern spares innocent packets",
        )
    return _Plan(
        signature,
        condition,
        trigger.expressions,
        (*trigger.expressions, *_placements(signature, condition)),
    )


def _placements(signature: Signature, condition: syntax.Expression) -> list[HsExpression]:
    """Every expression that the predicate of a normalised condition asks about."""
    return [placed(*p) for p in placed_patterns(condition, signature.patterns)]


def _is_alternative(condition: syntax.Expression) -> bool:
    """Whether a condition is true as soon as one of its placements matches."""
    match condition:
        case syntax.Match():
            return True
        case syntax.Of(quantity=quantity):
            return quantity in ("any", 1)
        case syntax.Or(operands=operands):
            return all(_is_alternative(operand) for operand in operands)
        case _:
            return False


def _bank(plans: Sequence[_Plan], diagnostics: list[Diagnostic], *, followed: bool) -> Bank:
    try:
        return Bank(plans, followed=followed)
    except ExpressionError as error:
        expressions = Bank.expressions(plans)
        for position, reason in error.reasons.items():
            expression = expressions[position]
            diagnostics.extend(
                _refused(plan, expression, reason)
                for plan in plans
                if expression in plan.expressions
            )
        return Bank([], followed=followed)


def _refused(plan: _Plan, expression: HsExpression, reason: str) -> Diagnostic:
    """Name the pattern behind an expression that Hyperscan does not take."""
    signature = plan.signature
    for pattern, place in placed_patterns(plan.condition, signature.patterns):
        if expression == placed(pattern, place):
            reason, hint = _IN_OUR_WORDS.get(reason, (reason, ""))
            message = f"`{pattern.name}`: {reason}"
            return Diagnostic("S019", message, signature.source, pattern.span, hint)
    return Diagnostic("S019", reason, signature.source, signature.condition.span)


# Reasons of Hyperscan's that its own words do not make plain.
_IN_OUR_WORDS = {
    "Pattern matches empty buffer; use HS_FLAG_ALLOWEMPTY to enable support.": (
        "this matches where nothing stands",
        "require at least one byte",
    ),
    "Zero-width assertions are not supported.": (
        "what does not take up bytes (`(?=`, `(?!`, `(?<`) is not supported",
        "say it in `when`, with another pattern",
    ),
}
