"""Conditions become Python code, and never by way of text."""

from __future__ import annotations

import ast
import builtins
from typing import Any

import pytest

from engine.compiler.ruleset import RuleSet
from engine.fields import Context
from tests.loading import ONE, loaded

EVIL = "__import__('os').system('exit 1')"

DOCUMENT = f"""\
id: test.evil
title: Texts that are code elsewhere
scope: {{transport: tcp}}
patterns: |
  $a = "{EVIL}"
  $b = /__import__[(]/
when: |
  $a at u8(0) - 95 and $b and http.host != "{EVIL}" or text(0, 9) == "{EVIL[:9]}"
  or count($a) > 2 and http.header("{EVIL}") contains "{EVIL}"
then: {{action: log}}
tests:
  - {{expect: match, payload: '"{EVIL[:9]}"'}}
  - {{expect: no match, payload: '"x"'}}
"""


def test_python_is_given_no_text_to_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[object] = []

    def compile_(source: Any, *arguments: Any, **named: Any) -> Any:
        given.append(source)
        return original(source, *arguments, **named)

    loaded(ONE.encode())  # Lark reads its grammar the first time, which is ours
    original = builtins.compile
    monkeypatch.setattr(builtins, "compile", compile_)
    ruleset = loaded(DOCUMENT.encode())
    monkeypatch.undo()
    assert isinstance(ruleset, RuleSet), ruleset
    assert given
    assert [source for source in given if not isinstance(source, ast.AST)] == []
    bank = ruleset.tcp_stream
    payload = EVIL.encode()
    assert bank.decide(bank.database.scan(payload), Context(payload))
