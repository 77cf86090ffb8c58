"""Names for constants that several signatures share: `vars.yaml`, a mapping from names to values.

A value is a number, a text, a network, or a list of one kind of them. Conditions name it where
the constant itself could stand; it is filled in before anything is checked, at the place of
the name, so that mistakes are shown there.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

import yaml

from engine.language import syntax
from engine.language.diagnostics import Diagnostic, MistakeError, Source, Span
from engine.language.vocabulary import KEYWORDS, Type, Vocabulary
from engine.language.yaml_nodes import documents, plain_values, span_of

MAX_ITEMS = 256
MAX_TEXT = 4096
# In one condition, all entries of all variables each time they are named.
MAX_FILLED = 4096
MAX_NUMBER = (1 << 64) - 1

Scalar = int | float | str

_UNUSED = "name it in a condition, or take it out"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Variable:
    """A named constant; a network is a text until a condition asks for a network.

    What was defined with a mistake has no value, `()`.
    """

    name: str
    value: Scalar | tuple[Scalar, ...]
    source: Source = field(compare=False, repr=False)
    span: Span = field(compare=False, repr=False)


def read_variables(
    source: Source, taken: Collection[str]
) -> tuple[dict[str, Variable], list[Diagnostic]]:
    """The variables of a file and every diagnostic; `taken` are the names of fields."""
    nodes, diagnostics = documents(source)
    variables: dict[str, Variable] = {}

    def report(code: str, message: str, node: yaml.Node, hint: str = "") -> None:
        diagnostics.append(Diagnostic(code, message, source, span_of(node), hint))

    reserved = {name.split(".")[0] for name in taken} | KEYWORDS
    for root in nodes:
        values = plain_values(source, root, diagnostics)
        if not isinstance(root, yaml.MappingNode) or len(nodes) > 1:
            report("S006", "variables are one mapping: `NAME: value`", root)
            return {}, diagnostics
        for key, node in root.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else ""
            if not name or name in variables:  # reported already
                continue
            if not _NAME.fullmatch(name):
                report(
                    "S006", f"`{name[:60]}` is no name", key, "names are letters, digits and `_`"
                )
            elif name in reserved:
                report("S026", f"`{name}` means something else in conditions", key, "rename it")
            else:
                value = values[name]
                if (problem := _problem(value)) is not None:
                    report("S006", f"`{name}`: {problem}", node)
                    value = ()
                value = tuple(value) if isinstance(value, list) else value
                variables[name] = Variable(name, value, source, span_of(key))
    return variables, diagnostics


def _problem(value: Any) -> str | None:
    items = value if isinstance(value, list) else [value]
    if not items:
        return "a list needs entries"
    if len(items) > MAX_ITEMS:
        return f"at most {MAX_ITEMS} entries; longer ones belong in a file under lists/"
    if any(isinstance(i, bool) or not isinstance(i, Scalar) for i in items):
        return "a number, a text, a network, or a list of one kind of them is needed"
    if len({isinstance(item, str) for item in items}) > 1:
        return "a list holds one kind of entries"
    if any(not isinstance(i, str) and not 0 <= i <= MAX_NUMBER for i in items):
        return "numbers go from 0 to 2^64 - 1"
    if any(isinstance(item, str) and len(item) > MAX_TEXT for item in items):
        return f"a text ends at {MAX_TEXT} characters"
    return None


class Filling:
    """Fills variables into conditions and remembers which were named."""

    def __init__(self, variables: Mapping[str, Variable], vocabulary: Vocabulary) -> None:
        self.names = variables.keys()
        self._variables = variables
        self._vocabulary = vocabulary
        self._used: set[str] = set()
        self._filled = 0
        self._undefined = False

    def unused(self) -> list[Diagnostic]:
        """A warning for each variable that no condition named."""
        return [
            Diagnostic("S103", f"`{v.name}` is never used", v.source, v.span, _UNUSED)
            for v in self._variables.values()
            if v.name not in self._used
        ]

    def fill(self, condition: syntax.Expression, source: Source) -> syntax.Expression | None:
        """The condition with its variables replaced by constants. Raises MistakeError.

        Where a variable does not fit, its name is left for the checker to tell. None where one
        has no value.
        """
        if not self._variables:
            return condition
        self._filled = 0
        self._undefined = False
        filled: syntax.Expression = self._fill(condition)
        if self._filled > MAX_FILLED:
            message = f"{self._filled} entries of variables are too many, the limit is {MAX_FILLED}"
            hint = "put the entries into a file under lists/"
            raise MistakeError(Diagnostic("S023", message, source, condition.span, hint))
        return None if self._undefined else filled

    # Recursion ends: the parser bounds the depth of conditions.
    def _fill(self, node: Any) -> Any:
        if isinstance(node, tuple):
            return tuple(map(self._fill, node))
        if not isinstance(node, syntax.Node):
            return node
        if isinstance(node, syntax.Term) and node.name in self._variables:
            (value, *_) = self._entries(node.name)
            is_list = isinstance(self._variables[node.name].value, tuple)
            return node if is_list or node.arguments else _constant(value, node.span)
        if isinstance(node, syntax.Member) and isinstance(node.container, syntax.Term):
            return self._member(replace(node, operand=self._fill(node.operand)), node.container)
        changed = {
            child.name: self._fill(getattr(node, child.name))
            for child in fields(node)
            if child.name != "span"
        }
        return replace(node, **changed)

    def _member(self, member: syntax.Member, container: syntax.Term) -> syntax.Expression:
        """`x in NAME`: a choice, or one membership for each of several networks."""
        if container.name not in self._variables:
            return member
        span, operand = container.span, member.operand
        entries = self._entries(container.name)
        field = self._vocabulary.get(operand.name) if isinstance(operand, syntax.Term) else None
        if field is not None and field.type is Type.ADDRESS:
            networks = [network for entry in entries if (network := _network(entry)) is not None]
            if len(networks) < len(entries):
                return member
            each = tuple(
                replace(member, container=syntax.Network(value=network, span=span))
                for network in networks
            )
            return each[0] if len(each) == 1 else syntax.Or(operands=each, span=member.span)
        if not isinstance(self._variables[container.name].value, tuple):
            return member
        choice = syntax.Choice(items=tuple(_constant(e, span) for e in entries), span=span)
        return replace(member, container=choice)

    def _entries(self, name: str) -> tuple[Scalar, ...]:
        self._used.add(name)
        value = self._variables[name].value
        entries = value if isinstance(value, tuple) else (value,)
        self._filled += len(entries)
        self._undefined |= not entries
        return entries if entries and self._filled <= MAX_FILLED else (*entries, 0)[:1]


def _constant(value: Scalar, span: Span) -> syntax.Number | syntax.Text:
    if isinstance(value, str):
        return syntax.Text(value=value.encode(), span=span)
    return syntax.Number(value=value, span=span)


def _network(value: Scalar) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(value) if isinstance(value, str) else None
    except ValueError:
        return None
