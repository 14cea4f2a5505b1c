"""Robustness curves: success against level, factor by factor; the same records give the same bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_bench.account.boards import axis_of
from vla_bench.account.cells import REFERENCE
from vla_bench.account.rollups import Line, Rollup
from vla_bench.account.statistics import wilson
from vla_bench.account.tables.table import arm_label, shown_columns

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_IN = 6.75  # of a page
COLUMN_WIDTH_IN = 3.25  # of one of its two columns
PANEL_HEIGHT_IN = 1.45
PANELS_IN_A_ROW = 4
# Okabe and Ito's colours, told apart by the colour-blind; markers tell them apart in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 7,
    "axes.titlesize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "savefig.dpi": 200,
}
# Nothing that says when: no dates, and no hash of the time.
METADATA: dict[str, dict[str, Any]] = {
    "pdf": {"CreationDate": None, "ModDate": None},
    "png": {"Software": None},
}


def draw_curves(curves: Rollup, folder: Path, confidence: float) -> list[Path]:
    """Write `robustness_<axis>.pdf` and `.png` for every factor axis of a roll-up by factor and level.

    Axes of which fewer than two levels were run have no curve.

    Raises:
        OSError: A file cannot be written.
    """
    files: list[Path] = []
    by_axis: dict[str, dict[str, list[Line]]] = {}
    for line in curves.lines:
        by_axis.setdefault(axis_of(line.place), {}).setdefault(line.place, []).append(line)
    for axis, places in by_axis.items():
        lines = [line for own in places.values() for line in own]
        levels = [int(c) for c in curves.columns if any(c in own.cells and own.cells[c].n for own in lines)]
        if len(levels) > 1:
            files += _write(axis, places, levels, folder, confidence)
    return files


def _write(
    axis: str, places: dict[str, list[Line]], levels: Sequence[int], folder: Path, confidence: float
) -> list[Path]:
    import matplotlib.style

    files = [folder / f"robustness_{axis}.{ending}" for ending in METADATA]
    # whatever the user's own style is
    with matplotlib.style.context(["default", STYLE]):
        figure = _figure(axis, places, levels, confidence)
        for file, (ending, metadata) in zip(files, METADATA.items(), strict=True):
            figure.savefig(file, format=ending, metadata=metadata)
    return files


def _figure(axis: str, places: dict[str, list[Line]], levels: Sequence[int], confidence: float) -> Figure:
    """Small multiples: a panel a factor, a line an arm."""
    from matplotlib.figure import Figure

    rows = math.ceil(len(places) / PANELS_IN_A_ROW)
    columns = math.ceil(len(places) / rows)
    wide = columns > 1
    figure = Figure(
        figsize=(WIDTH_IN if wide else COLUMN_WIDTH_IN, rows * PANEL_HEIGHT_IN + 0.55), layout="constrained"
    )
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flatten()
    for panel, (place, lines) in zip(panels, places.items(), strict=False):
        tasks = len(lines[0].total.tasks)
        _draw_panel(panel, lines, levels, confidence)
        name = place.partition(".")[2].replace("_", " ")
        panel.set_title(f"{name} ({tasks} task{'s' * (tasks != 1)})")
    for panel in panels[len(places) :]:
        panel.remove()
    for lowest in panels[max(0, len(places) - columns) : len(places)]:
        lowest.tick_params(labelbottom=True)
    bands = f"bands: {100 * confidence:g} % Wilson intervals"
    figure.supxlabel(f"level of the {axis} factor, 0 = unvaried; {bands}", fontsize=7)
    figure.supylabel("success, %", fontsize=7)
    handles = {
        label: handle
        for panel in panels
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    lines_of_labels = math.ceil(len(handles) / (4 if wide else 2))
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside upper center",
        ncols=math.ceil(len(handles) / lines_of_labels),
    )
    return figure


def _draw_panel(panel: Axes, lines: Sequence[Line], levels: Sequence[int], confidence: float) -> None:
    shown = shown_columns([line.arm for line in lines])
    for i, line in enumerate(lines):
        x = [level for level in levels if (tally := line.cells.get(str(level))) and tally.n]
        tallies = [line.cells[str(level)] for level in x]
        y = [100 * tally.successes / tally.n for tally in tallies]
        if line.arm == REFERENCE:
            panel.plot(x, y, color="#777777", linestyle="--", linewidth=1, label=REFERENCE.policy, zorder=1.5)
            continue
        colour = COLOURS[i % len(COLOURS)]
        # the next round of colours has them with other markers
        marker = MARKERS[(i + i // len(COLOURS)) % len(MARKERS)]
        intervals = [wilson(tally.successes, tally.n, confidence) for tally in tallies]
        low = [100 * interval.low for interval in intervals if interval]
        high = [100 * interval.high for interval in intervals if interval]
        panel.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
        label = arm_label(line.arm, shown)
        panel.plot(x, y, color=colour, marker=marker, label=label, clip_on=False)
    panel.set_xlim(min(levels) - 0.15, max(levels) + 0.15)
    panel.set_ylim(0, 100)
    panel.set_xticks(levels)
    panel.set_yticks([0, 50, 100])
