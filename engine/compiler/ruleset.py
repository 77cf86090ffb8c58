"""The RuleSet: signatures compiled into databases and predicates, immutable once built."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from engine.compiler.database import Database, ExpressionError
from engine.compiler.expression import HsExpression, placed
from engine.compiler.plan import Plan, make_plan, refused
from engine.compiler.predicate import Predicate, compile_predicate, placed_patterns
from engine.fields import Context
from engine.language.diagnostics import Diagnostic, SignatureError, has_errors
from engine.language.document import Signature
from engine.language.form import Then
from engine.language.lists import Lists


@dataclass(frozen=True, slots=True)
class Rule:
    """A signature ready to run: what names it, what decides it, what follows.

    Without a predicate the match of its trigger, or of its combination, is the answer.
    """

    id: str
    rev: int
    then: Then
    predicate: Predicate | None


class Bank:
    """The rules for one kind of buffer: one database, and the rules behind each expression.

    `database.scan(payload)` gives the ids of the expressions that match: none, for innocent
    packets. When there are some, or when `needs_every_packet` because a rule has no trigger,
    `decide` must run.
    """

    def __init__(self, plans: Sequence[Plan], lists: Lists) -> None:
        """Compile. Raises ExpressionError; its positions count in `expressions(plans)`."""
        expressions = self.expressions(plans)
        ids = {expression: position for position, expression in enumerate(expressions)}
        combinations: dict[str, int] = {}
        heard: set[int] = set()
        triggered: list[tuple[int, int]] = []
        rules = []
        for position, plan in enumerate(plans):
            signature, formula, predicate = plan.signature, plan.formula, None
            if formula is None:
                heard.update(ids[expression] for expression in plan.expressions)
                triggers: Iterable[int] = [ids[expression] for expression in plan.trigger]
                predicate = compile_predicate(
                    signature.id, plan.condition, signature.patterns, ids, plan.searches, lists
                )
            elif formula.is_alternative:
                triggers = {ids[expression] for expression in formula.terms()}
                heard.update(triggers)
            else:
                written = formula.written(ids)
                triggers = [len(ids) + combinations.setdefault(written, len(combinations))]
            triggered += [(trigger, position) for trigger in triggers]
            rules.append(Rule(signature.id, signature.rev, signature.then, predicate))
        self.database = Database(expressions, list(combinations), set(ids.values()) - heard)
        self._triggered: list[list[int]] = [[] for _ in range(len(ids) + len(combinations))]
        for trigger, position in triggered:
            self._triggered[trigger].append(position)
        self._always = [i for i, plan in enumerate(plans) if plan.signature.always]
        self.rules = tuple(rules)
        self.needs_every_packet = bool(self._always)

    @staticmethod
    def expressions(plans: Sequence[Plan]) -> list[HsExpression]:
        """The distinct expressions of the plans, in the order that gives them their ids."""
        distinct: dict[HsExpression, None] = {}
        for plan in plans:
            distinct.update(dict.fromkeys(plan.expressions))
        return list(distinct)

    def decide(self, hits: Sequence[int], context: Context) -> list[Rule]:
        """The rules that are true for a buffer, given what its scan matched."""
        candidates = set(self._always)
        for hit in hits:
            candidates.update(self._triggered[hit])
        found = []
        for position in sorted(candidates):
            rule = self.rules[position]
            if rule.predicate is None or rule.predicate.when(context, hits):
                found.append(rule)
        return found


class RuleSet:
    """What packets are inspected with. Never changes: a reload builds another one.

    It can be pickled, compiled form and all.

    `udp` holds the rules for datagrams, `tcp_stream` those for the reassembled start of each
    direction, `tcp_packet` those for single segments.
    """

    def __init__(
        self,
        signatures: Sequence[Signature],
        warnings: Sequence[Diagnostic] = (),
        lists: Lists | None = None,
    ) -> None:
        """Compile checked signatures. Raises SignatureError with every diagnostic.

        `warnings` are those found so far, kept with the ones found here; `lists` are what the
        conditions ask for by `@name`.
        """
        diagnostics = list(warnings)
        plans: dict[tuple[str, str], list[Plan]] = {
            ("udp", "packet"): [],
            ("tcp", "stream"): [],
            ("tcp", "packet"): [],
        }
        for signature in signatures:
            plan = make_plan(signature, diagnostics)
            if plan is not None:
                plans[signature.transport, signature.inspect].append(plan)
        banks = {
            kind: _bank(of_kind, lists or Lists({}), diagnostics) for kind, of_kind in plans.items()
        }
        if has_errors(diagnostics):
            raise SignatureError(diagnostics)
        self.signatures = tuple(signatures)
        self.warnings = tuple(diagnostics)
        self.udp = banks["udp", "packet"]
        self.tcp_stream = banks["tcp", "stream"]
        self.tcp_packet = banks["tcp", "packet"]

    def self_test(self) -> list[Diagnostic]:
        """Run every signature's own tests; gives a diagnostic for each that fails."""
        failures = []
        for signature in self.signatures:
            bank = self._bank_of(signature)
            for test in signature.tests:
                rules = bank.decide(bank.database.scan(test.payload), Context(test.payload))
                if (signature.id in {rule.id for rule in rules}) != test.must_match:
                    wanted = "must match, and does not" if test.must_match else "must not match"
                    failures.append(
                        Diagnostic(
                            "S021",
                            f"`{signature.id}`: this payload {wanted}",
                            signature.source,
                            test.span,
                        )
                    )
        return failures

    def _bank_of(self, signature: Signature) -> Bank:
        if signature.transport == "udp":
            return self.udp
        return self.tcp_stream if signature.inspect == "stream" else self.tcp_packet


def _bank(plans: Sequence[Plan], lists: Lists, diagnostics: list[Diagnostic]) -> Bank:
    try:
        return Bank(plans, lists)
    except ExpressionError as error:
        expressions = Bank.expressions(plans)
        reasons = {expressions[position]: reason for position, reason in error.reasons.items()}
        for plan in plans:
            diagnostics += [
                _refused(plan, expression, reasons[expression])
                for expression in dict.fromkeys(plan.expressions)
                if expression in reasons
            ]
        return Bank([], lists)


def _refused(plan: Plan, expression: HsExpression, reason: str) -> Diagnostic:
    """Name the pattern behind an expression that Hyperscan does not take."""
    signature = plan.signature
    for pattern, place in placed_patterns(plan.condition, signature.patterns):
        if expression == placed(pattern, place):
            return refused(signature, pattern, reason)
    for pattern in signature.patterns:
        if expression == placed(pattern, None):
            return refused(signature, pattern, reason)
    return Diagnostic("S019", reason, signature.source, signature.condition.span)
