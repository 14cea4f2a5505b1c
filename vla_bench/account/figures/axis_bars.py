"""F1: success by axis as bars, an arm a colour, with Wilson intervals; by suite where no axis was tested."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from vla_bench.account import rollups
from vla_bench.account.boards import Board, Tally
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
from vla_bench.account.tables.table import ARM_COLUMNS, MARK, Number, arm_numbers, ends
from vla_bench.types import Arm

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

PANEL_HEIGHT_IN = 1.5


def figures(counted: Counted) -> Iterator[Figure]:
    """The axes that the tasks test, the axes that were varied, or else the suites."""
    boards, drawn_as, confidence = counted.boards, looks(counted.arms), counted.confidence
    by_task = rollups.by_task_axis(boards)
    by_factor = _over_levels(rollups.by_factor_axis(boards))
    if by_task.lines:
        yield _figure(
            "axis_bars", "Success by task axis", by_task, drawn_as, confidence,
            "Unvaried episodes by the axis of generalisation that their task tests.",
        )  # fmt: skip
    if by_factor.lines:
        yield _figure(
            "factor_bars", "Success by factor axis", by_factor, drawn_as, confidence,
            "Episodes under one factor of an axis, all levels above 0 together, beside the unvaried ones of "
            "the same tasks.",
        )  # fmt: skip
    if not by_task.lines and (suites := _by_suite(boards)).lines:
        yield _figure("suite_bars", "Success by suite", suites, drawn_as, confidence, "Unvaried episodes.")


def _by_suite(boards: Sequence[Board]) -> Rollup:
    """One place whose columns are the suites."""
    totals = {
        arm: {board.suite: board.total(arm, "", board.axes) for board in boards if "" in board.counts}
        for arm in (*dict.fromkeys(arm for board in boards for arm in board.arms), REFERENCE)
    }
    lines = [Line("", arm, cells) for arm, cells in totals.items() if any(t.n for t in cells.values())]
    return Rollup(tuple(board.suite for board in boards if "" in board.counts), tuple(lines))


def _over_levels(by_level: Rollup) -> Rollup:
    """Places as columns: an axis beside its unvaried episodes, by suite where there are several."""
    lines: dict[tuple[str, Arm], dict[str, Tally]] = {}
    for line in by_level.lines:
        axis, _, suite = line.place.partition(", ")
        cells = lines.setdefault((suite, line.arm), {})
        cells[f"{axis}, unvaried"] = line.cells.get("0", Tally())
        cells[axis] = sum((t for level, t in line.cells.items() if level != "0"), Tally())
    columns = dict.fromkeys(column for cells in lines.values() for column in cells)
    return Rollup(tuple(columns), tuple(Line(suite, arm, cells) for (suite, arm), cells in lines.items()))


def _figure(
    name: str, title: str, made: Rollup, drawn_as: Mapping[Arm, Look], confidence: float, about: str
) -> Figure:
    return Figure(
        name=name, title=title,
        caption=(
            about,
            f"Bars: rate, each episode with the same weight; whiskers: {100 * confidence:g} % Wilson "
            f"intervals; numbers: episodes that count, with {MARK} where others ended in errors.",
        ),
        header=("place", *ARM_COLUMNS, "column", "successes", "n", "rate", "low", "high", "errors"),
        rows=tuple(row for line in made.lines for row in _rows(line, made.columns, confidence)),
        draw=partial(_draw, made, drawn_as, confidence),
    )  # fmt: skip


def _rows(line: Line, columns: Sequence[str], confidence: float) -> Iterator[tuple[Number, ...]]:
    for column in columns:
        if (tally := line.cells.get(column)) and tally.n:
            yield (
                line.place, *arm_numbers(line.arm), column, tally.successes, tally.n, tally.rate,
                *ends(wilson(tally.successes, tally.n, confidence)), tally.errors,
            )  # fmt: skip


def _draw(made: Rollup, drawn_as: Mapping[Arm, Look], confidence: float) -> Drawing:
    """A panel a place, a group of bars a column."""
    places: dict[str, list[Line]] = {}
    for line in made.lines:
        places.setdefault(line.place, []).append(line)
    bars = len(made.columns) * max(map(len, places.values()))
    width = fitting_width_in(drawn_as.values(), wide=bars > 9)
    above = legend_height_in(drawn_as.values(), width)
    drawing = new_drawing(width, len(places) * PANEL_HEIGHT_IN + above)
    panels = drawing.subplots(len(places), 1, sharex=True, squeeze=False).flatten()
    for panel, (place, lines) in zip(panels, places.items(), strict=True):
        _draw_panel(panel, lines, made.columns, drawn_as, confidence)
        panel.set_title(place, loc="left")
    drawing.supylabel("success, %", fontsize=7)
    legend(drawing)
    return drawing


def _draw_panel(
    panel: Axes,
    lines: Sequence[Line],
    columns: Sequence[str],
    drawn_as: Mapping[Arm, Look],
    confidence: float,
) -> None:
    width = 0.8 / len(lines)
    for i, line in enumerate(lines):
        look = drawn_as[line.arm]
        tallies = [(x, line.cells[c]) for x, c in enumerate(columns) if c in line.cells and line.cells[c].n]
        at = [x - 0.4 + (i + 0.5) * width for x, _ in tallies]
        rates = [100 * tally.successes / tally.n for _, tally in tallies]
        intervals = [wilson(tally.successes, tally.n, confidence) for _, tally in tallies]
        low = [rate - 100 * interval.low for rate, interval in zip(rates, intervals, strict=True) if interval]
        high = [
            100 * interval.high - rate for rate, interval in zip(rates, intervals, strict=True) if interval
        ]
        panel.bar(
            at, rates, 0.9 * width, color=look.colour, label=look.label, alpha=0.85,
            hatch=look.hatch, edgecolor="white", linewidth=0,
        )  # fmt: skip
        # rounding must not make a whisker negative
        panel.errorbar(
            at, rates, [[max(0, v) for v in low], [max(0, v) for v in high]], fmt="none", ecolor="#222222",
            elinewidth=0.7, capsize=1.5, capthick=0.7,
        )  # fmt: skip
        for x, (_, tally), up in zip(at, tallies, high, strict=True):
            top = min(100 * tally.successes / tally.n + up + 2, 103)
            count = f"{tally.n}{MARK if tally.errors else ''}"
            panel.text(x, top, count, ha="center", va="bottom", fontsize=5, color="#555555")
    panel.set_xticks(range(len(columns)), [c.replace(", ", "\n").replace("_", " ") for c in columns])
    panel.tick_params(axis="x", length=0)
    panel.grid(axis="x", visible=False)
    panel.set_ylim(0, 112)
    panel.set_yticks([0, 25, 50, 75, 100])
