"""Conditions and patterns as an author writes them, on their way through the compiler."""

from __future__ import annotations

from pathlib import Path

from engine.compiler.normal import normalise
from engine.fields import VOCABULARY
from engine.language import syntax
from engine.language.checker import check
from engine.language.diagnostics import Diagnostic, Fragment, Source, Span
from engine.language.document import Signature
from engine.language.form import Then
from engine.language.parser import parse_condition, parse_patterns

SPAN = Span(1, 1, 1, 2)


def fragment(text: str) -> Fragment:
    return Fragment(Source(Path("a.yaml"), text), text, 1, 1)


def patterns(text: str) -> tuple[syntax.Pattern, ...]:
    return parse_patterns(fragment(text))


def condition(text: str) -> syntax.Expression:
    return parse_condition(fragment(text))


def normal(text: str) -> syntax.Expression:
    return normalise(condition(text))


def checked(when: str, named: str = "", transport: str = "udp") -> list[Diagnostic]:
    return check(
        patterns(named),
        condition(when),
        transport=transport,
        inspect="packet" if transport == "udp" else "stream",
        vocabulary=VOCABULARY,
        source=Source(Path("a.yaml"), when),
    )


def signature(
    when: str,
    named: str = "",
    *,
    name: str = "a.b",
    transport: str = "udp",
    inspect: str = "packet",
    always: bool = False,
    then: dict[str, object] | None = None,
    enabled: bool = True,
) -> Signature:
    return Signature(
        id=name,
        rev=1,
        title="",
        certainty="certain",
        enabled=enabled,
        transport=transport,
        inspect=inspect,
        patterns=patterns(named),
        condition=condition(when),
        always=always,
        then=Then.model_validate(then or {"action": "block"}),
        tests=(),
        source=Source(Path("a.yaml"), when),
        span=SPAN,
    )
