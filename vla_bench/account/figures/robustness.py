"""Robustness curves: success against level, factor by factor."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from vla_bench.account import rollups
from vla_bench.account.boards import axis_of
from vla_bench.account.cells import REFERENCE
from vla_bench.account.counted import Counted
from vla_bench.account.figures.figure import (
    Figure,
    Look,
    fitting_width_in,
    legend,
    legend_height_in,
    looks,
    new_drawing,
)
from vla_bench.account.rollups import Line, Rollup
from vla_bench.account.statistics import wilson
from vla_bench.account.tables.table import ARM_COLUMNS, Number, arm_numbers, ends
from vla_bench.types import Arm

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

PANEL_HEIGHT_IN = 1.45
PANELS_IN_A_ROW = 4


def figures(counted: Counted) -> Iterator[Figure]:
    """`robustness_<axis>` of every factor axis of which at least two levels were run."""
    yield from curves(rollups.by_factor(counted.boards), looks(counted.arms), counted.confidence)


def curves(made: Rollup, drawn_as: Mapping[Arm, Look], confidence: float) -> Iterator[Figure]:
    """The figures of a roll-up by factor and level."""
    by_axis: dict[str, dict[str, list[Line]]] = {}
    for line in made.lines:
        by_axis.setdefault(axis_of(line.place), {}).setdefault(line.place, []).append(line)
    for axis, places in by_axis.items():
        lines = [line for own in places.values() for line in own]
        levels = [int(c) for c in made.columns if any(c in own.cells and own.cells[c].n for own in lines)]
        if len(levels) > 1:
            yield Figure(
                name=f"robustness_{axis}", title=f"Success by level of the {axis} factors",
                caption=(
                    f"Success against the level of one factor at a time; bands: {100 * confidence:g} % "
                    "Wilson intervals; level 0 is the unvaried episodes of the tasks that the factor was run "
                    "on. Each episode has the same weight.",
                ),
                header=("factor", *ARM_COLUMNS, "level", "tasks", "successes", "n", "rate", "low", "high"),
                rows=tuple(row for line in lines for row in _rows(line, levels, confidence)),
                draw=partial(_draw, axis, places, levels, drawn_as, confidence),
            )  # fmt: skip


def _rows(line: Line, levels: Sequence[int], confidence: float) -> Iterator[tuple[Number, ...]]:
    for level in levels:
        if (tally := line.cells.get(str(level))) and tally.n:
            yield (
                line.place, *arm_numbers(line.arm), level, len(tally.tasks), tally.successes, tally.n,
                tally.rate, *ends(wilson(tally.successes, tally.n, confidence)),
            )  # fmt: skip


def _draw(
    axis: str,
    places: Mapping[str, Sequence[Line]],
    levels: Sequence[int],
    drawn_as: Mapping[Arm, Look],
    confidence: float,
) -> Drawing:
    """Small multiples: a panel a factor, a line an arm."""
    rows = math.ceil(len(places) / PANELS_IN_A_ROW)
    columns = math.ceil(len(places) / rows)
    width = fitting_width_in(drawn_as.values(), wide=columns > 1)
    above = legend_height_in(drawn_as.values(), width)
    drawing = new_drawing(width, rows * PANEL_HEIGHT_IN + 0.2 + above)
    panels = drawing.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flatten()
    for panel, (place, lines) in zip(panels, places.items(), strict=False):
        tasks = len(lines[0].total.tasks)
        _draw_panel(panel, lines, levels, drawn_as, confidence)
        name = place.partition(".")[2].replace("_", " ")
        panel.set_title(f"{name} ({tasks} task{'s' * (tasks != 1)})")
    for panel in panels[len(places) :]:
        panel.remove()
    for lowest in panels[max(0, len(places) - columns) : len(places)]:
        lowest.tick_params(labelbottom=True)
    drawing.supxlabel(f"level of the {axis} factor, 0 = unvaried", fontsize=7)
    drawing.supylabel("success, %", fontsize=7)
    legend(drawing)
    return drawing


def _draw_panel(
    panel: Axes,
    lines: Sequence[Line],
    levels: Sequence[int],
    drawn_as: Mapping[Arm, Look],
    confidence: float,
) -> None:
    for line in lines:
        look = drawn_as[line.arm]
        x = [level for level in levels if (tally := line.cells.get(str(level))) and tally.n]
        tallies = [line.cells[str(level)] for level in x]
        y = [100 * tally.successes / tally.n for tally in tallies]
        if line.arm == REFERENCE:
            panel.plot(x, y, color=look.colour, linestyle="--", linewidth=1, label=look.label, zorder=1.5)
            continue
        intervals = [wilson(tally.successes, tally.n, confidence) for tally in tallies]
        low = [100 * interval.low for interval in intervals if interval]
        high = [100 * interval.high for interval in intervals if interval]
        panel.fill_between(x, low, high, color=look.colour, alpha=0.15, linewidth=0)
        panel.plot(x, y, color=look.colour, marker=look.marker, label=look.label, clip_on=False)
    panel.set_xlim(min(levels) - 0.15, max(levels) + 0.15)
    panel.set_ylim(0, 100)
    panel.set_xticks(levels)
    panel.set_yticks([0, 50, 100])
