"""The RuleSet: signatures compiled into databases and predicates, immutable once built."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from engine.compiler.clauses import Clause, numbered, trigger_decides
from engine.compiler.database import Database, ExpressionError
from engine.compiler.expression import HsExpression, placed
from engine.compiler.outcome import LATER, NEVER, NOW, compile_outcome
from engine.compiler.plan import Plan, make_plan, refused
from engine.compiler.predicate import Predicate, compile_predicate, placed_patterns
from engine.compiler.statistics import collect
from engine.fields import Context
from engine.fields.socks import UDP_HEADER
from engine.fields.turns import Turns
from engine.language.diagnostics import Diagnostic, SignatureError, has_errors
from engine.language.document import Signature
from engine.language.form import Then
from engine.language.lists import Lists


@dataclass(frozen=True, slots=True)
class Rule:
    """A signature ready to run: what names it, what decides it, what follows.

    Without a predicate it is true when one of its clauses is, and without clauses as soon as
    its trigger has matched.
    """

    id: str
    rev: int
    then: Then
    clauses: tuple[Clause[int], ...]
    predicate: Predicate | None

    def is_true(self, context: Context, hits: Set[int]) -> bool:
        """Whether it is, once triggered, for a buffer in which `hits` matched."""
        if self.predicate is not None:
            return bool(self.predicate.when(context, hits))
        return not self.clauses or any(clause.holds(hits) for clause in self.clauses)

    def outcome(self, context: Context) -> int:
        """For a rule of flows: NEVER, LATER or NOW (see `outcome`)."""
        assert self.predicate is not None
        outcome: int = self.predicate.when(context, ())
        return outcome


_BUFFERS = (
    ("udp", "packet"),
    ("tcp", "stream"),
    ("tcp", "packet"),
    ("tcp", "middle"),
    ("udp", "flow"),
    ("tcp", "flow"),
)
_SOCKS = HsExpression(UDP_HEADER)

# Transport, what is inspected, enabled: signatures of one kind share a bank.
_Kind = tuple[str, str, bool]


class Bank:
    """The rules for one kind of buffer: one database, and the rules behind each expression.

    `database.scan(payload)` gives the ids of the expressions that match: none, for innocent
    packets. When there are some, or when `needs_every_packet` because a rule has no trigger,
    `decide` must run. Rules of flows are asked by `follow` instead.
    """

    def __init__(
        self, plans: Sequence[Plan], lists: Lists, *, wrapping: HsExpression | None = None
    ) -> None:
        """Compile. `wrapping` is looked for as well, without a rule behind it.

        What it matches may hold another buffer, so a clean packet pays nothing for the question.

        Raises ExpressionError; its positions count in `expressions(plans)`.
        """
        expressions = self.expressions(plans)
        self._expressions = len(expressions)
        if wrapping is not None:
            expressions.append(wrapping)
        ids = {expression: position for position, expression in enumerate(expressions)}
        self.database = Database(expressions)
        self._triggered: list[list[int]] = [[] for _ in expressions]
        rules = []
        for position, plan in enumerate(plans):
            signature, predicate = plan.signature, None
            clauses: tuple[Clause[int], ...] = ()
            if signature.inspect == "flow":
                predicate = compile_outcome(signature.id, plan.condition, plan.searches, lists)
            elif plan.clauses is None:
                predicate = compile_predicate(
                    signature.id, plan.condition, signature.patterns, ids, plan.searches, lists
                )
            elif not trigger_decides(plan.clauses):
                clauses = numbered(plan.clauses, ids)
            rules.append(Rule(signature.id, signature.rev, signature.then, clauses, predicate))
            for expression in plan.trigger:
                self._triggered[ids[expression]].append(position)
        self._always = [i for i, plan in enumerate(plans) if plan.signature.always]
        self.rules = tuple(rules)
        self.needs_every_packet = bool(self._always)
        self._beginnings: dict[bytes, bool] = {}

    @staticmethod
    def expressions(plans: Sequence[Plan]) -> list[HsExpression]:
        """The distinct expressions of the plans, in the order that gives them their ids."""
        distinct: dict[HsExpression, None] = {}
        for plan in plans:
            distinct.update(dict.fromkeys(plan.expressions))
        return list(distinct)

    def __len__(self) -> int:
        """How many expressions its rules look for."""
        return self._expressions

    def candidates(self, hits: Sequence[int]) -> list[Rule]:
        """The rules to be asked about a buffer, given what its scan matched."""
        positions = set(self._always)
        for hit in hits:
            positions.update(self._triggered[hit])
        return [self.rules[position] for position in sorted(positions)]

    def decide(self, hits: Sequence[int], context: Context) -> list[Rule]:
        """The rules that are true for a buffer, given what its scan matched."""
        matched = frozenset(hits)
        return [rule for rule in self.candidates(hits) if rule.is_true(context, matched)]

    def follow(
        self, rules: Sequence[Rule], context: Context
    ) -> tuple[list[Rule], tuple[Rule, ...]]:
        """Of some of the rules, all of flows: those that are true now, and those that may be."""
        found, later = [], []
        for rule in rules:
            outcome = rule.outcome(context)
            if outcome == NOW:
                found.append(rule)
            elif outcome == LATER:
                later.append(rule)
        return found, tuple(later)

    def may_begin(self, payload: bytes) -> bool:
        """Whether a flow that begins with this payload may match one of the rules, of flows.

        Told by its first two bytes, which TLS for instance does not share with what signatures
        look for: most flows need not be followed at all.
        """
        first = payload[:2]
        may = self._beginnings.get(first)
        if may is None:
            contexts = [Context(b"", turns=_beginning(first, c)) for c in (True, False)]
            may = self._beginnings[first] = any(
                rule.outcome(context) != NEVER for rule in self.rules for context in contexts
            )
        return may


def _beginning(first: bytes, from_client: bool) -> Turns:
    """The turns of a flow of which these bytes have come."""
    turns = Turns()
    turns.add(from_client, len(first), first)
    return turns


class RuleSet:
    """What packets are inspected with. Never changes: a reload builds another one.

    It can be pickled, compiled form and all. `statistics` says what it is made of.

    `udp` holds the rules for datagrams, `tcp_stream` those for the reassembled start of each
    direction, `tcp_packet` those for single segments, `tcp_middle` those for single segments of
    connections whose beginning was not seen; `udp_flow` and `tcp_flow` those for the turns of
    flows. With `tcp_by_stream` only the first two kinds of a connection's segments are of
    interest: those of its start, and the first ones seen.
    All hold the enabled signatures only; the `disabled` ones are compiled into banks of their
    own, where their tests run.
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
        lists = lists or Lists({})
        plans: dict[_Kind, list[Plan]] = {
            (transport, inspect, enabled): []
            for transport, inspect in _BUFFERS
            for enabled in (True, False)
        }
        for signature in signatures:
            plan = make_plan(signature, diagnostics, lists)
            if plan is not None:
                plans[_kind(signature)].append(plan)

        def bank(kind: _Kind) -> tuple[Bank, list[Diagnostic]]:
            wrapping = _SOCKS if plans[kind] and kind[:2] == ("udp", "packet") else None
            return _bank(plans[kind], lists, wrapping)

        banks = {}
        # Hyperscan compiles without Python's lock: large sets of both transports side by side.
        with ThreadPoolExecutor() as pool:
            for kind, (built, refusals) in zip(plans, pool.map(bank, plans), strict=True):
                banks[kind] = built
                diagnostics += refusals
        if has_errors(diagnostics):
            raise SignatureError(diagnostics)
        self.signatures = tuple(s for s in signatures if s.enabled)
        self.disabled = tuple(s for s in signatures if not s.enabled)
        self.lists = lists
        self.warnings = tuple(diagnostics)
        self.statistics = collect(
            (f"{kind[0]} {kind[1]}", plans[kind], len(bank), bank.database.size_bytes)
            for kind, bank in banks.items()
            if kind[2]
        )
        self._hold(banks)

    def _hold(self, banks: Mapping[_Kind, Bank]) -> None:
        self._banks = banks
        self.udp = banks["udp", "packet", True]
        self.tcp_stream = banks["tcp", "stream", True]
        self.tcp_packet = banks["tcp", "packet", True]
        self.tcp_middle = banks["tcp", "middle", True]
        self.udp_flow = banks["udp", "flow", True]
        self.tcp_flow = banks["tcp", "flow", True]
        self.tcp_by_stream = not self.tcp_packet.rules and not self.tcp_flow.rules

    def bank_of(self, signature: Signature) -> Bank:
        """The rules among which a signature's is."""
        return self._banks[_kind(signature)]

    def without_sources(self) -> RuleSet:
        """A copy for inspecting alone: no signatures, lists and warnings, nothing disabled."""
        other = copy.copy(self)
        other.signatures = other.disabled = ()
        other.lists, other.warnings = Lists({}), ()
        other._banks = {kind: bank for kind, bank in self._banks.items() if kind[2]}
        return other

    def with_banks(self, change: Callable[[Bank], Bank]) -> RuleSet:
        """A copy with every bank changed: how tools watch the rules at work."""
        other = copy.copy(self)
        other._hold({kind: change(bank) for kind, bank in self._banks.items()})
        return other


def _kind(signature: Signature) -> _Kind:
    return signature.transport, signature.inspect, signature.enabled


def _bank(
    plans: Sequence[Plan], lists: Lists, wrapping: HsExpression | None
) -> tuple[Bank, list[Diagnostic]]:
    """The bank of some plans, or an empty one and what Hyperscan refuses."""
    try:
        return Bank(plans, lists, wrapping=wrapping), []
    except ExpressionError as error:
        expressions = Bank.expressions(plans)
        reasons = {expressions[position]: reason for position, reason in error.reasons.items()}
        return Bank([], lists), [
            _refused(plan, expression, reasons[expression])
            for plan in plans
            for expression in dict.fromkeys(plan.expressions)
            if expression in reasons
        ]


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
