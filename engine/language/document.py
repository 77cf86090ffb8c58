"""Signature files: YAML read strictly, every mistake with its place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import pydantic
import yaml

from engine.certainty import Certainty
from engine.language import syntax
from engine.language.diagnostics import (
    Diagnostic,
    Fragment,
    MistakeError,
    Source,
    Span,
    has_errors,
    nearest,
)
from engine.language.ends import End, both_ends
from engine.language.form import SignatureForm, Then
from engine.language.parser import parse_condition, parse_patterns
from engine.language.payload import Payloads
from engine.language.yaml_nodes import documents, key_span, node_at, plain_values, span_of

# Of one file; what follows more mistakes is not read.
MAX_MISTAKES = 100


@dataclass(frozen=True, slots=True)
class SignatureTest:
    """What a signature is tried on, and whether it must match; `span` is where that stands.

    Either one `payload`, or a flow: its `turns`, the client's first, then each side's in turn,
    and of each the packets. `ends` are who sends the first payload and whom it is for; the tags
    are those they bear.
    """

    payload: bytes
    must_match: bool
    span: Span = field(compare=False, repr=False)
    ends: tuple[End, End]
    turns: tuple[tuple[bytes, ...], ...] = ()
    source_tags: frozenset[str] = frozenset()
    destination_tags: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Allowance:
    """A warning that a signature may give, by its code."""

    code: str
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature as written: metadata, patterns, condition, tests."""

    id: str
    rev: int
    title: str
    certainty: Certainty
    enabled: bool
    transport: str
    inspect: str
    patterns: tuple[syntax.Pattern, ...]
    condition: syntax.Expression
    always: bool
    then: Then
    tests: tuple[SignatureTest, ...]
    source: Source = field(compare=False, repr=False)
    span: Span = field(compare=False, repr=False)
    allow: tuple[Allowance, ...] = ()


def read(source: Source) -> tuple[list[Signature], list[Diagnostic]]:
    """The signatures of one file and every diagnostic; signatures with errors are left out."""
    nodes, diagnostics = documents(source)
    signatures = []
    for node in nodes:
        document = _Document(source, node)
        signature = document.signature()
        diagnostics += document.diagnostics[:MAX_MISTAKES]
        if signature is not None and not has_errors(document.diagnostics):
            signatures.append(signature)
        if sum(d.severity == "error" for d in diagnostics) >= MAX_MISTAKES:
            message = f"{MAX_MISTAKES} mistakes are enough; what follows was not read"
            diagnostics.append(Diagnostic("S023", message, source, span_of(node)))
            break
    return signatures, diagnostics


class _Document:
    """One YAML document on its way to a signature."""

    def __init__(self, source: Source, root: yaml.Node) -> None:
        self.diagnostics: list[Diagnostic] = []
        self._source = source
        self._root = root

    def signature(self) -> Signature | None:
        values = plain_values(self._source, self._root, self.diagnostics)
        if has_errors(self.diagnostics):
            return None
        if not isinstance(values, dict):
            self._report("S006", "a signature is a mapping: `id: ...`", span_of(self._root))
            return None
        try:
            form = SignatureForm.model_validate(values)
        except pydantic.ValidationError as error:
            for problem in error.errors(include_url=False):
                self._report_problem(problem)
            return None
        patterns, condition = self._patterns(form), self._condition()
        tests = tuple(self._tests(form))
        if {test.expect for test in form.tests} != {"match", "no match"}:
            self._report(
                "S022",
                "at least one test must match and one look-alike must not",
                self._key_span("tests"),
            )
        if patterns is None or condition is None:
            return None
        default = "stream" if form.scope.transport == "tcp" else "packet"
        inspect = form.scope.inspect or default
        self._check_together(form, inspect)
        return Signature(
            id=form.id,
            rev=form.rev,
            title=form.title,
            certainty=form.certainty,
            enabled=form.enabled,
            transport=form.scope.transport,
            inspect=inspect,
            patterns=patterns,
            condition=condition,
            # A flow has no bytes in one piece that could be matched first.
            always=form.prefilter == "none" or inspect == "flow",
            then=form.then,
            tests=tests,
            source=self._source,
            span=span_of(self._node("id")),
            allow=tuple(
                Allowance(code, span_of(self._node("allow", index)))
                for index, code in enumerate(form.allow)
            ),
        )

    def _report(self, code: str, message: str, span: Span, hint: str = "") -> None:
        self.diagnostics.append(Diagnostic(code, message, self._source, span, hint))

    def _check_together(self, form: SignatureForm, inspect: str) -> None:
        """Report keys that are right each by itself, and not beside each other."""
        if form.scope.transport == "udp" and inspect in ("stream", "middle"):
            span = span_of(self._node("scope", "inspect"))
            self._report("S006", "udp has no streams", span, "use `inspect: packet`")
        if inspect == "flow" and form.patterns:
            message = "patterns need one buffer, and a flow has none"
            hint = "read its turns: `turn(0).text(0, 4)`"
            self._report("S006", message, self._key_span("patterns"), hint)
        if form.then.action == "tag" and form.then.tag is None:
            hint = "add `tag: {name: ..., of: src, for: 10m}`"
            span = span_of(self._node("then", "action"))
            self._report("S005", "`tag` is missing: the action is to set it", span, hint)
        if form.then.ban is not None and form.then.action != "block":
            message = f"`{form.then.action}` bans nobody"
            hint = "use `action: block`, or leave `ban` out"
            self._report("S006", message, self._key_span("then", "ban"), hint)

    def _node(self, *path: str | int) -> yaml.Node:
        return node_at(self._root, *path)

    def _key_span(self, *path: str | int) -> Span:
        return key_span(self._root, *path)

    def _report_problem(self, problem: Any) -> None:
        """Put one of pydantic's findings into our words."""
        path: Sequence[str | int] = problem["loc"]
        name = f"`{path[-1]}`"
        if isinstance(path[-1], int):
            key = next(step for step in reversed(path) if isinstance(step, str))
            name = f"`{key}`, number {path[-1] + 1}"
        message = str(problem["msg"]).removeprefix("Value error, ")
        match problem["type"]:
            case "missing":
                hint = f"add `{path[-1]}: ...`"
                self._report("S005", f"{name} is missing", self._key_span(*path), hint)
            case "extra_forbidden":
                hint = nearest(str(path[-1]), _known_keys(path))
                self._report("S004", f"unknown key {name}", self._key_span(*path), hint)
            case "model_type":
                hint = "write `{key: value, ...}`"
                self._report(
                    "S006", f"{name}: a mapping is needed", span_of(self._node(*path)), hint
                )
            case "too_short" | "too_long" as which:
                bound = "at least" if which == "too_short" else "at most"
                limit = problem["ctx"]["min_length" if which == "too_short" else "max_length"]
                message = f"{name}: {bound} {limit} of them"
                self._report("S006", message, span_of(self._node(*path)))
            case _:
                message = message[:1].lower() + message[1:]
                self._report("S006", f"{name}: {message}", span_of(self._node(*path)))

    def _literal_block(self, key: str) -> Fragment | None:
        node = self._node(key)
        if not isinstance(node, yaml.ScalarNode) or node.style != "|":
            self._report(
                "S007",
                f"`{key}` must be a literal block",
                span_of(node),
                f"write `{key}: |` and the text indented below it",
            )
            return None
        first = node.start_mark.line + 2  # the line after the `|`
        # YAML breaks lines at two characters more than the grammar does.
        text = re.sub("[\u2028\u2029]", "\n", node.value)
        indent = 0
        for number, line in enumerate(text.split("\n"), first):
            if line:
                indent = len(self._source.line(number)) - len(line)
                break
        return Fragment(self._source, text, first, indent + 1)

    def _patterns(self, form: SignatureForm) -> tuple[syntax.Pattern, ...] | None:
        if not form.patterns:
            return ()
        fragment = self._literal_block("patterns")
        return None if fragment is None else self._parsed(parse_patterns, fragment)

    def _condition(self) -> syntax.Expression | None:
        fragment = self._literal_block("when")
        return None if fragment is None else self._parsed(parse_condition, fragment)

    def _tests(self, form: SignatureForm) -> Iterator[SignatureTest]:
        for index, test in enumerate(form.tests):
            node = self._node("tests", index)
            if (test.payload is None) is (test.turns is None):
                wrong = "no `payload`" if test.payload is None else "both `payload` and `turns`"
                hint = "write `payload: ...`, or `turns: [...]` for a flow"
                message = f"`tests`, number {index + 1}, has {wrong}"
                self._report("S005", message, span_of(node), hint)
                continue
            texts = Payloads()
            if test.turns is None:
                node = self._node("tests", index, "payload")
                payloads = [self._payload(texts, test.payload or "", node)]
            else:
                payloads = [
                    self._payload(texts, text, self._node("tests", index, "turns", turn, packet))
                    for turn, packets in enumerate(test.turns)
                    for packet, text in enumerate(packets)
                ]
            try:
                ends = both_ends(test.src, test.dst)
            except ValueError as error:
                self._report("S006", str(error), span_of(self._node("tests", index, "dst")))
                continue
            if None not in payloads:
                sent = iter(payloads)
                yield SignatureTest(
                    payload=payloads[0],
                    must_match=test.expect == "match",
                    span=span_of(node),
                    ends=ends,
                    turns=tuple(tuple(islice(sent, len(turn))) for turn in test.turns or ()),
                    source_tags=frozenset(test.tagged.src),
                    destination_tags=frozenset(test.tagged.dst),
                )

    def _payload(self, texts: Payloads, text: str, node: yaml.Node) -> Any:
        """The bytes of a test's payload; None after a mistake."""
        quoted = 1 if isinstance(node, yaml.ScalarNode) and node.style else 0
        line, column = node.start_mark.line + 1, node.start_mark.column + 1 + quoted
        fragment = Fragment(self._source, text, line, column)
        # Only where YAML left the text as it is written are places in it places in the file.
        as_written = self._source.line(line)[column - 1 :].startswith(text)
        return self._parsed(texts.read, fragment, None if as_written else span_of(node))

    def _parsed(self, parse: Any, fragment: Fragment, place: Span | None = None) -> Any:
        """What `parse` makes of a text; None after a mistake, put at `place` if there is one."""
        try:
            return parse(fragment)
        except MistakeError as mistake:
            found = mistake.diagnostic
            self.diagnostics.append(replace(found, span=place) if place else found)
            return None


def _known_keys(path: Sequence[str | int]) -> list[str]:
    """The keys that the mapping at `path[:-1]` may have, read off the form."""
    model: Any = SignatureForm
    for step in path[:-1]:
        if isinstance(step, str):
            model = model.model_fields[step].annotation
            for argument in getattr(model, "__args__", ()):
                if isinstance(argument, type) and issubclass(argument, pydantic.BaseModel):
                    model = argument
    return [field.alias or name for name, field in model.model_fields.items()]
