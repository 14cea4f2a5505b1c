"""A figure as a value: what it shows as rows, and how it is drawn; its files are the same bytes each time."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_bench.account.cells import REFERENCE
from vla_bench.account.formats import csv_text
from vla_bench.account.tables.table import Number, arm_label, differing_columns
from vla_bench.types import Arm

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

WIDTH_IN = 6.75  # of a page
COLUMN_WIDTH_IN = 3.25  # of one of its two columns
CHARACTER_IN = 0.058  # of a label in the size of all figures
MOST_LEGEND_IN = 0.8  # above a narrow drawing
# Okabe and Ito's colours, told apart by the colour-blind; markers tell them apart in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
HATCHES = ("", "xxxx", "....")  # of bars, for each round of colours
GREY = "#777777"
STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 7,
    "axes.titlesize": 7,
    "axes.labelsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "vla-bench",
    "savefig.dpi": 200,
    # a policy may be called "$x$"
    "text.parse_math": False,
}
# Nothing that says when: no dates, and no hash of the time.
METADATA: Mapping[str, Mapping[str, Any]] = {
    "pdf": {"CreationDate": None, "ModDate": None},
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
}


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of a report.

    Attributes:
        name: Stem of its files.
        caption: Its sentences.
        header, rows: The numbers that it shows, as its CSV has them.
        draw: Makes the drawing; called under the style of all figures.
    """

    name: str
    title: str
    caption: tuple[str, ...]
    header: tuple[str, ...]
    rows: tuple[tuple[Number, ...], ...]
    draw: Callable[[], Drawing]


@dataclass(frozen=True, slots=True)
class Look:
    """How an arm is drawn, the same in all figures of a report."""

    colour: str
    marker: str
    label: str
    hatch: str = ""


def looks(arms: Sequence[Arm]) -> dict[Arm, Look]:
    """A look for each arm: the next round of colours has other markers and hatches. The reference is grey."""
    shown = differing_columns(arms)
    found = {
        arm: Look(
            COLOURS[i % len(COLOURS)],
            MARKERS[(i + i // len(COLOURS)) % len(MARKERS)],
            arm_label(arm, shown),
            HATCHES[i // len(COLOURS) % len(HATCHES)],
        )
        for i, arm in enumerate(arm for arm in arms if arm != REFERENCE)
    }
    return {**found, REFERENCE: Look(GREY, "_", REFERENCE.policy, "////")}


def write_figure(figure: Figure, folder: Path) -> list[Path]:
    """Write a figure's numbers and drawing: `<name>.csv`, `.pdf`, `.png` and `.svg`.

    Raises:
        OSError: A file cannot be written.
    """
    import matplotlib.style

    table = folder / f"{figure.name}.csv"
    table.write_text(csv_text((figure.header, *figure.rows)), encoding="utf-8", newline="\n")
    files = [folder / f"{figure.name}.{ending}" for ending in METADATA]
    # whatever the user's own style is
    with matplotlib.style.context(["default", STYLE]), warnings.catch_warnings():
        # a letter that the font lacks is drawn as a box; the CSV has it
        warnings.filterwarnings("ignore", message="Glyph")
        drawing = figure.draw()
        drawing.draw_without_rendering()  # lays it out, once for all files
        drawing.set_layout_engine("none")
        for file, (ending, metadata) in zip(files, METADATA.items(), strict=True):
            drawing.savefig(file, format=ending, metadata=dict(metadata))
    return [table, *files]


def new_drawing(width_in: float, height_in: float) -> Drawing:
    """An empty drawing of a size, which sees to it that nothing overlaps."""
    from matplotlib.figure import Figure as Drawing

    return Drawing(figsize=(width_in, height_in), layout="constrained")


def legend(drawing: Drawing) -> None:
    """One legend above all panels, each label once, in as many columns as there is room for."""
    handles = {
        label: handle
        for panel in drawing.axes
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    if not handles:
        return
    entry_in = 0.5 + max(map(len, handles)) * CHARACTER_IN
    columns = max(1, int(drawing.get_figwidth() / entry_in))
    rows = -(-len(handles) // columns)
    drawing.legend(
        handles.values(), handles.keys(), loc="outside upper center", ncols=-(-len(handles) // rows)
    )


def fitting_width_in(drawn_as: Iterable[Look], *, wide: bool) -> float:
    """The width of a page, or of a column where that is enough for the drawing and its legend."""
    room = legend_height_in(drawn_as, COLUMN_WIDTH_IN) < MOST_LEGEND_IN
    return COLUMN_WIDTH_IN if room and not wide else WIDTH_IN


def legend_height_in(drawn_as: Iterable[Look], width_in: float) -> float:
    """Room that the legend of some looks takes in a drawing of a width."""
    labels = [look.label for look in drawn_as]
    columns = max(1, int(width_in / (0.5 + max(map(len, labels), default=0) * CHARACTER_IN)))
    return 0.1 + 0.15 * -(-len(labels) // columns)


def logarithmic(panel: Axes, low: float, high: float) -> None:
    """Make the x axis logarithmic around some values: a decade or more, air on both sides, plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    middle = (math.log10(low) + math.log10(high)) / 2
    half = max(0.5, (math.log10(high) - math.log10(low)) / 2) + 0.15
    panel.set_xscale("log")
    panel.set_xlim(10 ** (middle - half), 10 ** (middle + half))
    axis = panel.xaxis
    axis.set_major_locator(LogLocator(numticks=8) if half > 1 else LogLocator(subs=(1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: _plain(value)))


def _plain(value: float) -> str:
    """A number on an axis, without an exponent."""
    for unit_size, unit in ((1e6, " M"), (1e3, " k")):
        if value >= unit_size:
            return f"{value / unit_size:g}{unit}"
    return f"{value:g}"
