"""The `tools/sigtest` command: what signatures say about captures, and why."""

from engine.sigtest.command import main

__all__ = ["main"]
