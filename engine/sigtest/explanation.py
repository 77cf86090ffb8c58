"""Flows explained: for each signature the packet that decided it, and what each term was there.

The inspector runs as ever, on banks that evaluate the conditions as they are written before
they give the compiled answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from engine.compiler.evaluation import Evaluation
from engine.compiler.explain import Explainer
from engine.compiler.ruleset import Bank, Rule, RuleSet
from engine.errors import InputError
from engine.fields import Context
from engine.inspect.inspector import Inspector
from engine.inspect.packet import Endpoint
from engine.language.document import Signature
from engine.trial import CaptureTrial, FlowPackets, FlowTrial
from engine.truth import FlowKey


@dataclass(frozen=True, slots=True)
class Decision:
    """A signature's condition at the packet that matched, or that came closest.

    `payload_index` counts from 0 among the flow's packets with payload; `size` is in bytes, of
    the datagram or of the start of the stream so far, None where the turns of the flow are
    what was looked at.
    """

    evaluation: Evaluation
    payload_index: int
    source: str
    destination: str
    size: int | None

    @property
    def matched(self) -> bool:
        return self.evaluation.value is True


@dataclass(slots=True)
class FlowExplanation:
    """A flow, and by signature id what decided each; None where there was nothing to look at."""

    flow: FlowTrial
    signatures: Sequence[Signature]
    decisions: dict[str, Decision] = field(default_factory=dict)


class FlowFilter:
    """Which flows are meant by `ADDRESS[:PORT][-ADDRESS[:PORT]]`, in any order."""

    def __init__(self, text: str) -> None:
        """Raise InputError for what is no endpoint."""
        # So that what the listing prints can be pasted: `udp 10.0.0.1:1 - 10.0.0.2:2`.
        words = text.strip().removeprefix("tcp ").removeprefix("udp ")
        self._ends = [_endpoint(end.strip(), text) for end in words.split("-")]
        if len(self._ends) > 2:
            raise InputError(f"--flow {text}: a flow has two ends, A-B")

    def __call__(self, key: FlowKey) -> bool:
        """Whether a flow is meant."""
        ends = (key.a, key.b)
        if len(self._ends) == 1:
            return any(_is_at(end, self._ends[0]) for end in ends)
        return any(
            _is_at(a, self._ends[0]) and _is_at(b, self._ends[1]) for a, b in (ends, ends[::-1])
        )


def _endpoint(text: str, whole: str) -> str:
    """An address, or an address and a port, as flows write them."""
    if text.startswith("["):
        address, _, port = text[1:].partition("]")
        port = port.removeprefix(":") if port else ""
    elif text.count(":") == 1:
        address, _, port = text.partition(":")
    else:
        address, port = text, ""
    try:
        found = str(ip_address(address))
    except ValueError:
        hint = "give ADDRESS:PORT, [ADDRESS]:PORT or ADDRESS, of one end or of both: A-B"
        raise InputError(f"--flow {whole}: `{text}` is no endpoint; {hint}") from None
    if port and not port.isdecimal():
        raise InputError(f"--flow {whole}: `{port}` is no port")
    host = f"[{found}]" if ":" in found else found
    return f"{host}:{port}"


def _is_at(end: str, wanted: str) -> bool:
    return end == wanted or (wanted.endswith(":") and end.rpartition(":")[0] + ":" == wanted)


class _ExplainingBank(Bank):
    """Shows every buffer to `look` before it is decided."""

    def __init__(self, bank: Bank, look: Callable[[Bank, Context], None]) -> None:
        vars(self).update(vars(bank))  # what is compiled is shared
        self.needs_every_packet = True
        self._look = look

    def decide(self, hits: Sequence[int], context: Context) -> list[Rule]:
        self._look(self, context)
        return super().decide(hits, context)

    def follow(
        self, rules: Sequence[Rule], context: Context
    ) -> tuple[list[Rule], tuple[Rule, ...]]:
        self._look(self, context)
        return super().follow(rules, context)

    def may_begin(self, payload: bytes) -> bool:
        return True


class _Witness:
    """Sees the buffers of one capture, and keeps for each flow what came closest."""

    def __init__(self, explainers: Sequence[Explainer]) -> None:
        self._by_id = {explainer.signature.id: explainer for explainer in explainers}
        self.current: FlowExplanation | None = None

    def look(self, bank: Bank, context: Context) -> None:
        if self.current is not None:
            for rule in bank.rules:
                if rule.id in self._by_id:
                    self._evaluate(self._by_id[rule.id], context, self.current)

    def _evaluate(
        self, explainer: Explainer, context: Context, explanation: FlowExplanation
    ) -> None:
        name = explainer.signature.id
        closest = explanation.decisions.get(name)
        if closest is not None and closest.matched:
            return
        evaluation = explainer.evaluate(context)
        nearer = closest is None or evaluation.nearness > closest.evaluation.nearness
        if not nearer and evaluation.value is not True:
            return
        explanation.decisions[name] = Decision(
            explainer.annotate(evaluation, context),
            explanation.flow.payload_packets - 1,
            str(Endpoint(context.source, context.source_port)),
            str(Endpoint(context.destination, context.destination_port)),
            None if explainer.signature.inspect == "flow" else len(context.payload),
        )


@dataclass(frozen=True, slots=True)
class CaptureExplanation:
    """The flows of one capture that were asked for, in its order."""

    trial: CaptureTrial
    flows: Sequence[FlowExplanation]
    left_out: int
    """Flows with payload over `max_flows`, which were not explained."""


def explain_capture(
    path: Path,
    ruleset: RuleSet,
    explainers: Sequence[Explainer],
    wanted: Callable[[FlowKey], bool],
    max_flows: int,
) -> CaptureExplanation:
    """Inspect a capture and explain the first `max_flows` of the flows that are `wanted`."""
    witness = _Witness(explainers)
    inspector = Inspector(ruleset.with_banks(lambda bank: _ExplainingBank(bank, witness.look)))
    asked_for: dict[FlowKey, FlowExplanation | None] = {}
    explained: list[FlowExplanation] = []
    packets = FlowPackets(path)
    for now_s, datagram, has_payload, flow in packets:
        witness.current = None
        if has_payload and wanted(flow.key):
            if flow.key not in asked_for:
                room = len(explained) < max_flows
                asked_for[flow.key] = _begin(flow, explainers) if room else None
                explained += filter(None, [asked_for[flow.key]])
            witness.current = asked_for[flow.key]
        flow.add(inspector.inspect(datagram, now_s).detections)
    return CaptureExplanation(packets.result(), explained, len(asked_for) - len(explained))


def _begin(flow: FlowTrial, explainers: Sequence[Explainer]) -> FlowExplanation:
    signatures = [e.signature for e in explainers if e.signature.transport == flow.key.proto]
    return FlowExplanation(flow, signatures)
