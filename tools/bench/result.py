"""What a part of the benchmark gives back: figures of every run, and tables of them."""

from __future__ import annotations

import operator
import statistics
from collections.abc import Iterable, Iterator
from typing import Protocol

from rich.table import Table


class Result(Protocol):
    """A frozen dataclass of figures, which are its JSON as they stand."""

    def tables(self) -> Iterator[Table]:
        """The figures as people read them: medians of the runs, beside limit or peer."""
        ...


def table(title: str, first: str, *others: str) -> Table:
    """A table without rows: names to the left, figures to the right."""
    made = Table(title=title, title_justify="left")
    made.add_column(first)
    for heading in others:
        made.add_column(heading, justify="right")
    return made


def ratio(figures: Iterable[float], limits: Iterable[float]) -> float:
    """The median of what each figure is of the limit that was measured beside it.

    Run by run, because neighbours in time share the machine's mood.
    """
    ratios: Iterator[float] = map(operator.truediv, figures, limits)
    return statistics.median(ratios)
