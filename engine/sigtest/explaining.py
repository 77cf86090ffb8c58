"""Shows why signatures matched or did not: each condition as written, its terms' values beside."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from engine.compiler.evaluation import Evaluation
from engine.compiler.explain import Explainer
from engine.compiler.ruleset import RuleSet
from engine.errors import InputError
from engine.language import syntax
from engine.language.diagnostics import nearest
from engine.language.document import Signature
from engine.language.values import constant
from engine.signatures import load
from engine.sigtest.explanation import (
    CaptureExplanation,
    Decision,
    FlowExplanation,
    FlowFilter,
    explain_capture,
)
from engine.sigtest.listing import count, with_progress
from engine.trial import FlowTrial, each_capture, find_captures

MAX_FLOWS: Final = 10
"""Of each capture, where no --flow is given."""

FEW_SIGNATURES: Final = 3
"""So many are shown whatever they come to; of more, those of which a term was true."""

_SHOWN_CHARACTERS: Final = 48
_SHOWN_B: Final = 48
_SHOWN_VALUES: Final = 5
_WORDS: Final = {True: "true", False: "false", None: "unknown"}
_STYLES: Final = {True: "green", False: "red", None: "yellow"}


def run(options: argparse.Namespace) -> int:
    """Explain the flows that were asked for; returns the exit code."""
    captures = find_captures(options.captures)
    wanted = FlowFilter(options.flow) if options.flow else None
    ruleset = load(options.signatures, profile=options.detection_profile, enable_all=options.all)
    explainers = [
        Explainer(signature, ruleset.lists) for signature in _chosen(ruleset, options.signature)
    ]

    def work(path: Path) -> CaptureExplanation:
        return explain_capture(
            path,
            ruleset,
            explainers,
            wanted or (lambda _: True),
            sys.maxsize if wanted else MAX_FLOWS,
        )

    console = Console(highlight=False, soft_wrap=True)
    flows = left_out = 0
    errors = []
    explanations = each_capture(captures, work, options.processes)
    for explanation in with_progress(explanations, len(captures)):
        trial = explanation.trial
        if trial.error is not None:
            errors.append(trial.error)
            print(f"sigtest: {trial.error}", file=sys.stderr)
        flows += len(explanation.flows)
        left_out += explanation.left_out
        for flow in explanation.flows:
            if options.json:
                print(json.dumps({"file": str(trial.path), **_flow_json(flow)}))
            else:
                few = len(flow.signatures) <= FEW_SIGNATURES
                _print_flow(console, trial.path, flow, every=few)
    if options.flow and not flows and not errors:
        raise InputError(f"--flow {options.flow}: no such flow with payload in these captures")
    exit_code = InputError.exit_code if errors else 0
    if options.json:
        summary = {"flows": flows, "left_out": left_out, "errors": errors, "exit_code": exit_code}
        print(json.dumps({"summary": summary}))
    elif left_out:
        console.print(f"{left_out} more flows with payload: choose with --flow")
    return exit_code


def _chosen(ruleset: RuleSet, names: list[str] | None) -> list[Signature]:
    """The signatures named, all when none is."""
    by_id = {signature.id: signature for signature in ruleset.signatures}
    for name in names or ():
        if name not in by_id:
            raise InputError(f"--signature {name}: there is none; {nearest(name, by_id)}")
    return [by_id[name] for name in names or by_id]


def _in_order(explanation: FlowExplanation) -> list[tuple[Signature, Decision | None]]:
    """What matched first, then what came closest."""
    decided = [(s, explanation.decisions.get(s.id)) for s in explanation.signatures]
    return sorted(decided, key=lambda d: (d[1] is None or not d[1].matched, -_nearness(d[1])))


def _nearness(decision: Decision | None) -> float:
    return 0.0 if decision is None else decision.evaluation.nearness


# --- for people


def _print_flow(console: Console, path: Path, explanation: FlowExplanation, *, every: bool) -> None:
    """One flow. Signatures of which no term was true are only named, unless `every`."""
    flow = explanation.flow
    console.print(Text(f"{path}: {flow.key}", "bold"))
    console.print(f"  {_fate(flow)}", markup=False)
    far = []
    for signature, decision in _in_order(explanation):
        if decision is None or (not decision.matched and not every and not _nearness(decision)):
            far.append(signature.id)
        else:
            _print_decision(console, signature, decision, flow)
    if far:
        console.print(f"  not a term true: {', '.join(far)}")
    console.print()


def _fate(flow: FlowTrial) -> str:
    packets = f"{count(flow.packets, 'packet')}, {flow.payload_packets} with payload"
    if flow.first_payload_index is None:
        return packets
    later = flow.payload_packets - 1 - flow.first_payload_index
    unseen = ", what came after it was not looked at" if later else ""
    return f"{packets}: stopped in packet {flow.first_payload_index}{unseen}"


def _print_decision(
    console: Console, signature: Signature, decision: Decision, flow: FlowTrial
) -> None:
    head = Text("  ")
    if decision.matched:
        head.append("match", "bold green")
    else:
        head.append("no match", "bold red")
    closest = "" if decision.matched or flow.payload_packets == 1 else ", the closest"
    head.append(f"  {signature.id}", "bold")
    ends = f"{decision.source} -> {decision.destination}"
    size = "" if decision.size is None else f", {count(decision.size, 'byte')}"
    head.append(f"  in packet {decision.payload_index}{closest}: {ends}{size}")
    console.print(head)
    threshold = signature.then.threshold
    if decision.matched and threshold is not None and signature.id not in flow.signatures:
        console.print(
            f"    without effect: its threshold of {threshold.count} within "
            f"{threshold.within} s from one {threshold.per} was not reached"
        )
    terms = list(_terms(decision.evaluation))
    span = signature.condition.span
    margin = len(str(span.end_line))
    texts = [_shortened(_written(signature, term.node)) for term in terms]
    width = max(map(len, texts))
    numbers = range(span.line, span.end_line + 1)
    block = textwrap.dedent("\n".join(signature.source.line(n) for n in numbers)).split("\n")
    for number, line in zip(numbers, block, strict=True):
        console.print(Text(f"    {number:>{margin}} | {line}"))
        for term, text in zip(terms, texts, strict=True):
            if term.node.span.line == number:
                row = Text(f"    {'':{margin}} |   ")
                row.append(f"{_WORDS[term.value]:8}", _STYLES[term.value])
                row.append(f"{text:{width}}  {'; '.join(_values(signature, term))}")
                row.rstrip()
                console.print(row)


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 3]}..."


def _terms(evaluation: Evaluation) -> Iterator[Evaluation]:
    """The parts of a condition that have no `and` and `or` in them."""
    match evaluation.node:
        case syntax.Or(operands=operands, span=span) if all(o.span == span for o in operands):
            yield evaluation  # one membership as written, in a variable with several networks
        case syntax.And() | syntax.Or():
            for part in evaluation.parts:
                yield from _terms(part)
        case syntax.Not(operand=syntax.And() | syntax.Or() | syntax.Not()):
            yield from _terms(evaluation.parts[0])
        case _:
            yield evaluation


def _written(signature: Signature, node: syntax.Expression) -> str:
    """A node as its author wrote it, on one line."""
    span = node.span
    lines = [signature.source.line(n) for n in range(span.line, span.end_line + 1)]
    lines[-1] = lines[-1][: span.end_column - 1]
    lines[0] = lines[0][span.column - 1 :]
    return " ".join(" ".join(lines).split())


def _values(signature: Signature, term: Evaluation) -> Iterator[str]:
    """What a term read, and why a part of it has no value, from the outside in."""
    # The same name may stand for several values: a variable for the entries of its list.
    found: dict[str, dict[str, None]] = {}
    hexadecimal = "0x" in _written(signature, term.node)
    pending = [term]
    while pending:
        part = pending.pop(0)
        written = _written(signature, part.node)
        if part is term or isinstance(part.node, syntax.Match | syntax.Of):
            if part.note:
                yield part.note
        elif part.note:
            found.setdefault(f"{written}: ", {})[part.note] = None
        elif part.value is not None and _tells(part.node, written):
            text = shown(part.value, hexadecimal=hexadecimal)
            found.setdefault(f"{written} = ", {})[text] = None
        # The patterns of a set share their place.
        pending[:0] = part.parts[0].parts if isinstance(part.node, syntax.Of) else part.parts
    for name, values in found.items():
        texts = [*values][:_SHOWN_VALUES] + ["..."] * (len(values) > _SHOWN_VALUES)
        yield name + (texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]")


def _tells(node: syntax.Expression, written: str) -> bool:
    """Whether the value of a part is news; literals show themselves, variables do not."""
    if isinstance(node, syntax.Text | syntax.Number):
        return written[:1].isalpha() or written[:1] == "_"
    return not isinstance(node, syntax.Member | syntax.Known) and constant(node) is None


def shown(value: Any, *, hexadecimal: bool = False) -> str:
    """A value as the language writes it; integers in both ways where `hexadecimal`."""
    if isinstance(value, bytes):
        quoted = "".join(_character(byte) for byte in value[:_SHOWN_B])
        more = f"... ({len(value)} bytes)" if len(value) > _SHOWN_B else ""
        return f'"{quoted}"{more}'
    if isinstance(value, bool):
        return _WORDS[value]
    if isinstance(value, int):
        return f"{value:#x} ({value})" if hexadecimal else str(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def _character(byte: int) -> str:
    if byte in b'"\\':
        return f"\\{byte:c}"
    return chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}"


# --- for programs


def _flow_json(explanation: FlowExplanation) -> dict[str, Any]:
    return {
        **explanation.flow.as_json(),
        "explanations": [
            {
                "signature": signature.id,
                "file": str(signature.source.path),
                "matched": decision is not None and decision.matched,
                "took_effect": signature.id in explanation.flow.signatures,
                **_decision_json(signature, decision),
            }
            for signature, decision in _in_order(explanation)
        ],
    }


def _decision_json(signature: Signature, decision: Decision | None) -> dict[str, Any]:
    if decision is None:
        return {"payload_index": None, "condition": None}
    return {
        "payload_index": decision.payload_index,
        "source": decision.source,
        "destination": decision.destination,
        "size": decision.size,
        "nearness": round(decision.evaluation.nearness, 4),
        "condition": _node_json(signature, decision.evaluation),
    }


def _node_json(signature: Signature, evaluation: Evaluation) -> dict[str, Any]:
    span, value = evaluation.node.span, evaluation.value
    known = value is None or isinstance(value, bool | int | float)
    return {
        "text": _written(signature, evaluation.node),
        "line": span.line,
        "column": span.column,
        "end_line": span.end_line,
        "end_column": span.end_column,
        "value": value if known else shown(value),
        "note": evaluation.note,
        "parts": [_node_json(signature, part) for part in evaluation.parts],
    }
