"""YAML composed into nodes that know their place, strictly: no aliases, anchors, tags."""

from __future__ import annotations

from typing import Any

import yaml

from engine.language.diagnostics import Diagnostic, Source, Span

MAX_YAML_DEPTH = 16
# Numbers and the like are shorter. YAML 1.1 reads `1:2:3` in base 60, and takes time over it
# that grows with the square of its length.
_MAX_PLAIN_VALUE = 64

# libyaml's parser where it is built in; both give the same marks.
_Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def documents(source: Source) -> tuple[list[yaml.Node], list[Diagnostic]]:
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
        elif mark and source.line(mark.line + 1)[mark.column : mark.column + 1] == ":":
            hint = "put what begins with a colon in quotes"
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


def span_of(node: yaml.Node) -> Span:
    """Where a node stands; of a block, where it begins."""
    start, end = node.start_mark, node.end_mark
    if end.line != start.line:
        return Span(start.line + 1, start.column + 1, start.line + 1, start.column + 2)
    return Span(start.line + 1, start.column + 1, end.line + 1, end.column + 1)


def node_at(root: yaml.Node, *path: str | int) -> yaml.Node:
    """The node at a path of keys and indices, or the deepest that exists on the way."""
    node = root
    for step in path:
        if isinstance(node, yaml.MappingNode):
            below = [value for key, value in node.value if key.value == step]
            if not below:
                return node
            node = below[0]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            node = node.value[step]
    return node


def key_span(root: yaml.Node, *path: str | int) -> Span:
    """Where the last key of a path is written, or the first beside it."""
    parent = node_at(root, *path[:-1])
    if isinstance(parent, yaml.MappingNode):
        for key, _ in parent.value:
            if key.value == path[-1]:
                return span_of(key)
        if parent.value:
            return span_of(parent.value[0][0])
    return span_of(parent)


def plain_values(source: Source, root: yaml.Node, diagnostics: list[Diagnostic]) -> Any:
    """Plain values from nodes; duplicate and non-text keys are reported."""
    constructor = yaml.constructor.SafeConstructor()

    def values(node: yaml.Node) -> Any:
        if isinstance(node, yaml.ScalarNode):
            if len(node.value) > _MAX_PLAIN_VALUE:  # text, whatever YAML makes of it
                return node.value
            try:
                return constructor.construct_object(node)
            except (yaml.YAMLError, ValueError, OverflowError):
                return node.value
        if isinstance(node, yaml.SequenceNode):
            return [values(item) for item in node.value]
        found: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                diagnostics.append(Diagnostic("S006", "a key is a word", source, span_of(key)))
            elif key.value in found:
                message = f"`{key.value}` stands twice"
                diagnostics.append(Diagnostic("S003", message, source, span_of(key)))
            else:
                found[key.value] = values(value)
        return found

    return values(root)
