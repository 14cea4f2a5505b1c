"""Which tables and figures a run has: every number that a report shows is computed from here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from vla_bench.account import crossed, latency_curves
from vla_bench.account.counted import Counted, count
from vla_bench.account.figures import (
    Figure,
    axis_bars,
    heatmap,
    latency,
    posteriors,
    robustness,
    timeline,
    tradeoffs,
)
from vla_bench.account.tables import (
    Table,
    axes,
    decided,
    differences,
    effects,
    pace,
    published,
    rates,
    references,
)
from vla_bench.run.records import Run, garbage_kept

# Each makes those of which a run has something, in the order of the report.
TABLES: tuple[Callable[[Counted], Iterable[Table]], ...] = (
    rates.by_suite,
    decided.tables,
    crossed.tables,
    latency_curves.tables,
    references.tables,
    pace.tables,
    axes.tables,
    effects.of_axes,
    published.tables,
    differences.by_suite,
    effects.of_precision_and_pacing,
    rates.by_task,
    rates.varied,
)
FIGURES: tuple[Callable[[Counted], Iterable[Figure]], ...] = (
    axis_bars.figures,
    tradeoffs.figures,
    robustness.figures,
    posteriors.figures,
    heatmap.figures,
    latency_curves.figures,
    latency.figures,
    timeline.figures,
)


@dataclass(frozen=True, slots=True)
class Assembled:
    """What a report shows.

    Attributes:
        tables, figures: The most condensed first.
        confidence: Of all intervals.
    """

    tables: tuple[Table, ...]
    figures: tuple[Figure, ...]
    confidence: float


def assemble(run: Run) -> Assembled:
    """Count the records of a run and make its tables and figures; figures are drawn when they are written."""
    with garbage_kept():
        counted = count(run)
        return Assembled(
            tuple(table for make in TABLES for table in make(counted)),
            tuple(figure for make in FIGURES for figure in make(counted)),
            counted.confidence,
        )
