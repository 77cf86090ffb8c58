"""A gateway to run the blocker on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tools.lab.topology import Topology


@pytest.fixture
def topology() -> Iterator[Topology]:
    with Topology() as made:
        yield made
