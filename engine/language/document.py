"""Signature files: YAML read strictly, every mistake with its place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pydantic
import yaml

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
from engine.language.form import SignatureForm, Then
from engine.language.parser import parse_condition, parse_patterns
from engine.language.payload import read_payload

# Of one file; what follows more mistakes is not read.
MAX_MISTAKES = 100
MAX_YAML_DEPTH = 16
# Numbers and the like are shorter. YAML 1.1 reads `1:2:3` in base 60, and takes time over it
# that grows with the square of its length.
_MAX_PLAIN_VALUE = 64

# libyaml's parser where it is built in; both give the same marks.
_Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class SignatureTest:
    """What a signature is tried on, and whether it must match; `span` is where that stands.

    Either one `payload`, or a flow: its `turns`, the client's first, then each side's in turn.
    The tags are those that the first sender and the other side bear.
    """

    payload: bytes
    must_match: bool
    span: Span = field(compare=False, repr=False)
    turns: tuple[bytes, ...] = ()
    source_tags: frozenset[str] = frozenset()
    destination_tags: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature as written: metadata, patterns, condition, tests."""

    id: str
    rev: int
    title: str
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


def read(source: Source) -> tuple[list[Signature], list[Diagnostic]]:
    """The signatures of one file and every diagnostic; signatures with errors are left out."""
    nodes, diagnostics = _documents(source)
    signatures = []
    for node in nodes:
        document = _Document(source, node)
        signature = document.signature()
        diagnostics += document.diagnostics[:MAX_MISTAKES]
        if signature is not None and not has_errors(document.diagnostics):
            signatures.append(signature)
        if sum(d.severity == "error" for d in diagnostics) >= MAX_MISTAKES:
            message = f"{MAX_MISTAKES} mistakes are enough; what follows was not read"
            diagnostics.append(Diagnostic("S023", message, source, _span(node)))
            break
    return signatures, diagnostics


def _documents(source: Source) -> tuple[list[yaml.Node], list[Diagnostic]]:
    """Compose the YAML documents of a file.

    Aliases, anchors and tags are refused from the event stream, before any of them can be
    followed, and nesting is bounded there too: composing recurses.
    """

    def refuse(code: str, message: str, mark: Any, hint: str = "") -> Diagnostic:
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        return Diagnostic(code, message, source, Span(line, column, line, column + 1), hint)

    depth = 0
    try:
        for event in yaml.parse(source.text, Loader=_Loader):
            mark = event.start_mark
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                hint = "write the value out"
                return [], [refuse("S002", "anchors and aliases are not used here", mark, hint)]
            if getattr(event, "tag", None):
                hint = "quote a value to make it a text"
                return [], [refuse("S002", "tags are not used here", mark, hint)]
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
                if depth > MAX_YAML_DEPTH:
                    return [], [refuse("S023", f"nested more than {MAX_YAML_DEPTH} deep", mark)]
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
        nodes = [n for n in yaml.compose_all(source.text, Loader=_Loader) if not _is_empty(n)]
    except yaml.MarkedYAMLError as error:
        problem = ", ".join(filter(None, [error.context, error.problem]))
        mark = error.problem_mark or error.context_mark
        hint = ""
        if mark and source.line(mark.line + 1)[mark.column : mark.column + 1] == "\t":
            hint = "indent with spaces"
        elif mark and error.context_mark and error.context_mark.line != mark.line:
            hint = f"it began in line {error.context_mark.line + 1}"
        return [], [refuse("S001", problem, mark, hint)]
    except yaml.YAMLError:
        # Only characters are refused without a place.
        found = yaml.reader.Reader.NON_PRINTABLE.search(source.text)
        before = source.text[: found.start() if found else 0].split("\n")
        span = Span(len(before), len(before[-1]) + 1, len(before), len(before[-1]) + 2)
        return [], [Diagnostic("S001", "control characters are not allowed", source, span)]
    return nodes, []


def _is_empty(node: yaml.Node | None) -> bool:
    return node is None or (isinstance(node, yaml.ScalarNode) and node.value in ("", "null", "~"))


def _span(node: yaml.Node) -> Span:
    start, end = node.start_mark, node.end_mark
    if end.line != start.line:  # a block: point at where it begins
        return Span(start.line + 1, start.column + 1, start.line + 1, start.column + 2)
    return Span(start.line + 1, start.column + 1, end.line + 1, end.column + 1)


class _Document:
    """One YAML document on its way to a signature."""

    def __init__(self, source: Source, root: yaml.Node) -> None:
        self.diagnostics: list[Diagnostic] = []
        self._source = source
        self._root = root
        self._constructor = yaml.constructor.SafeConstructor()

    def signature(self) -> Signature | None:
        values = self._values(self._root)
        if has_errors(self.diagnostics):
            return None
        if not isinstance(values, dict):
            self._report("S006", "a signature is a mapping: `id: ...`", _span(self._root))
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
            span=_span(self._node("id")),
        )

    def _report(self, code: str, message: str, span: Span, hint: str = "") -> None:
        self.diagnostics.append(Diagnostic(code, message, self._source, span, hint))

    def _check_together(self, form: SignatureForm, inspect: str) -> None:
        """Report keys that are right each by itself, and not beside each other."""
        if (form.scope.transport, inspect) == ("udp", "stream"):
            span = _span(self._node("scope", "inspect"))
            self._report("S006", "udp has no streams", span, "use `inspect: packet`")
        if inspect == "flow" and form.patterns:
            message = "patterns need one buffer, and a flow has none"
            hint = "read its turns: `turn(0).text(0, 4)`"
            self._report("S006", message, self._key_span("patterns"), hint)
        if form.then.action == "tag" and form.then.tag is None:
            hint = "add `tag: {name: ..., of: src, for: 10m}`"
            span = _span(self._node("then", "action"))
            self._report("S005", "`tag` is missing: the action is to set it", span, hint)

    def _values(self, node: yaml.Node) -> Any:
        """Plain values from nodes; duplicate and non-text keys are reported."""
        if isinstance(node, yaml.ScalarNode):
            if len(node.value) > _MAX_PLAIN_VALUE:  # text, whatever YAML makes of it
                return node.value
            try:
                return self._constructor.construct_object(node)
            except (yaml.YAMLError, ValueError, OverflowError):
                return node.value
        if isinstance(node, yaml.SequenceNode):
            return [self._values(item) for item in node.value]
        values: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._report("S006", "a key is a word", _span(key))
            elif key.value in values:
                self._report("S003", f"`{key.value}` stands twice", _span(key))
            else:
                values[key.value] = self._values(value)
        return values

    def _node(self, *path: str | int) -> yaml.Node:
        """The node at a path of keys and indices, or the deepest that exists on the way."""
        node = self._root
        for step in path:
            if isinstance(node, yaml.MappingNode):
                below = [value for key, value in node.value if key.value == step]
                if not below:
                    return node
                node = below[0]
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
                node = node.value[step]
        return node

    def _key_span(self, *path: str | int) -> Span:
        """Where the last key of a path is written."""
        parent = self._node(*path[:-1])
        if isinstance(parent, yaml.MappingNode):
            for key, _ in parent.value:
                if key.value == path[-1]:
                    return _span(key)
            if parent.value:
                return _span(parent.value[0][0])
        return _span(parent)

    def _report_problem(self, problem: Any) -> None:
        """Put one of pydantic's findings into our words."""
        path: Sequence[str | int] = problem["loc"]
        name = f"`{path[-1]}`"
        if isinstance(path[-1], int):
            name = f"`{path[-2]}`, number {path[-1] + 1}"
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
                self._report("S006", f"{name}: a mapping is needed", _span(self._node(*path)), hint)
            case "too_short" | "too_long" as which:
                bound = "at least" if which == "too_short" else "at most"
                limit = problem["ctx"]["min_length" if which == "too_short" else "max_length"]
                message = f"{name}: {bound} {limit} of them"
                self._report("S006", message, _span(self._node(*path)))
            case _:
                message = message[:1].lower() + message[1:]
                self._report("S006", f"{name}: {message}", _span(self._node(*path)))

    def _literal_block(self, key: str) -> Fragment | None:
        node = self._node(key)
        if not isinstance(node, yaml.ScalarNode) or node.style != "|":
            self._report(
                "S007",
                f"`{key}` must be a literal block",
                _span(node),
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
                self._report("S005", message, _span(node), hint)
                continue
            if test.turns is None:
                node = self._node("tests", index, "payload")
                payloads = [self._payload(test.payload or "", node)]
            else:
                payloads = [
                    self._payload(text, self._node("tests", index, "turns", number))
                    for number, text in enumerate(test.turns)
                ]
            if None not in payloads:
                yield SignatureTest(
                    payload=payloads[0],
                    must_match=test.expect == "match",
                    span=_span(node),
                    turns=() if test.turns is None else tuple(payloads),
                    source_tags=frozenset(test.tagged.src),
                    destination_tags=frozenset(test.tagged.dst),
                )

    def _payload(self, text: str, node: yaml.Node) -> Any:
        """The bytes of a test's payload; None after a mistake."""
        quoted = 1 if isinstance(node, yaml.ScalarNode) and node.style else 0
        line, column = node.start_mark.line + 1, node.start_mark.column + 1 + quoted
        fragment = Fragment(self._source, text, line, column)
        # Only where YAML left the text as it is written are places in it places in the file.
        as_written = self._source.line(line)[column - 1 :].startswith(text)
        return self._parsed(read_payload, fragment, None if as_written else _span(node))

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
