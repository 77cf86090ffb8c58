"""Everything a condition can read of a packet: the registry of the language's fields."""

from engine.fields.context import Context
from engine.fields.registry import VOCABULARY

__all__ = ["VOCABULARY", "Context"]
