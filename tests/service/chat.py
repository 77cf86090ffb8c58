"""A signature of a made-up protocol."""

from __future__ import annotations

CHAT = """
id: example.chat.hello
title: A made-up protocol
scope: {transport: udp}
patterns: |
  $hello = "CHAT/1 hello"
when: |
  $hello at 0
then: {action: block}
tests:
  - {expect: match, payload: '"CHAT/1 hello"'}
  - {expect: no match, payload: '"chat"'}
"""
