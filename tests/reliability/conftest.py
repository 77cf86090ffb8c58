"""A gateway to harm, and a note of what each fault has cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.conftest import MEASURED
from tools.lab.topology import Topology

Measured = Callable[[str], None]


@pytest.fixture
def topology() -> Iterator[Topology]:
    """A gateway with two lines: what happens to one need not touch the other."""
    with Topology((4, 6), (4, 6)) as made:
        yield made


@pytest.fixture
def measured(record_property: Callable[[str, object], None]) -> Measured:
    """Note what was measured, for the table; a test asserts what holds on any machine."""
    return lambda text: record_property(MEASURED, text)
