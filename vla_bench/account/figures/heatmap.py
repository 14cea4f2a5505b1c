"""F5: success task by task: against the axes that were varied, or arm by arm where none was."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from vla_bench.account.boards import Board, Tally, added, axis_of
from vla_bench.account.counted import Counted
from vla_bench.account.figures.figure import (
    CHARACTER_IN,
    COLUMN_WIDTH_IN,
    WIDTH_IN,
    Figure,
    Look,
    looks,
    new_drawing,
)
from vla_bench.account.tables.table import ARM_COLUMNS, MARK, arm_numbers
from vla_bench.types import Arm

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing
    from matplotlib.image import AxesImage

ROW_IN = 0.145
LABELS_IN = 2.0  # room for the names of tasks and the scale
MOST_TASKS = 60  # more are not read in a figure; the tables have them


@dataclass(frozen=True, slots=True)
class Grid:
    """A panel: what was reached by task (rows) and column."""

    title: str
    columns: tuple[str, ...]
    arms: tuple[Arm, ...]
    cells: Mapping[tuple[str, str], Tally]


def figures(counted: Counted) -> Iterator[Figure]:
    """`tasks_<suite>` of every suite with at least two tasks."""
    drawn_as = looks(counted.arms)
    for board in counted.boards:
        if not 1 < len(board.axes) <= MOST_TASKS:
            continue
        grids = _by_axis(board, drawn_as) if board.single() else [_by_arm(board, drawn_as)]
        varied = "the axes whose factors were varied, all levels above 0" if board.single() else "arm"
        yield Figure(
            name=f"tasks_{board.suite}", title=f"Success by task, {board.suite}",
            caption=(
                f"Rate in % by task and {varied}; each episode with the same weight; empty: not run.",
                *([f"{MARK}: episodes ended in errors."] if _errors(grids) else []),
            ),
            header=("task", "column", *ARM_COLUMNS, "successes", "n", "rate", "errors"),
            rows=tuple(
                (task, column, *arm_numbers(arm), cell.successes, cell.n, cell.rate, cell.errors)
                for grid in grids
                for (task, column), cell in grid.cells.items()
                for arm in [grid.arms[0] if len(grid.arms) == 1 else grid.arms[grid.columns.index(column)]]
            ),
            draw=partial(_draw, board, grids),
        )  # fmt: skip


def _errors(grids: Sequence[Grid]) -> bool:
    return any(cell.errors for grid in grids for cell in grid.cells.values())


def _by_arm(board: Board, drawn_as: Mapping[Arm, Look]) -> Grid:
    names = {arm: drawn_as[arm].label for arm in board.arms}
    cells = {(task, names[arm]): board.total(arm, "", [task]) for task in board.axes for arm in board.arms}
    return Grid("", tuple(names.values()), board.arms, cells)


def _by_axis(board: Board, drawn_as: Mapping[Arm, Look]) -> list[Grid]:
    """A panel an arm; the unvaried tasks come first."""
    by_axis: dict[str, list[str]] = {"unvaried": [""]}
    for factor, levels in board.single().items():
        by_axis.setdefault(axis_of(factor), []).extend(levels.values())
    return [
        Grid(
            drawn_as[arm].label,
            tuple(by_axis),
            (arm,),
            {
                (task, axis): added(board.total(arm, variation, [task]) for variation in variations)
                for task in board.axes
                for axis, variations in by_axis.items()
            },
        )
        for arm in board.arms
    ]


def _draw(board: Board, grids: Sequence[Grid]) -> Drawing:
    columns = max(len(grid.columns) for grid in grids)
    across = min(len(grids), max(1, 18 // columns))
    down = -(-len(grids) // across)
    width = COLUMN_WIDTH_IN if across * columns <= 5 else WIDTH_IN
    room = int((width - LABELS_IN) / across / CHARACTER_IN)
    titles = [textwrap.fill(grid.title, max(6, room)) for grid in grids]
    lines = max(title.count("\n") for title in titles)
    drawing = new_drawing(width, down * (len(board.axes) * ROW_IN + 0.75 + 0.12 * lines))
    panels = drawing.subplots(down, across, sharey=True, squeeze=False).flatten()
    image: AxesImage | None = None
    for panel, grid, title in zip(panels, grids, titles, strict=False):
        image = _draw_panel(panel, board, grid)
        panel.set_title(title)
    for panel in panels[len(grids) :]:
        panel.remove()
    if image is not None:
        bar = drawing.colorbar(image, ax=list(panels[: len(grids)]), fraction=0.04, pad=0.01, aspect=30)
        bar.outline.set_visible(False)
        bar.set_label("success, %")
    return drawing


def _draw_panel(panel: Axes, board: Board, grid: Grid) -> AxesImage:
    tasks = list(board.axes)
    rates = np.array(
        [
            [np.nan if (r := grid.cells[task, c].rate) is None else 100 * r for c in grid.columns]
            for task in tasks
        ]
    )
    image = panel.imshow(rates, cmap="cividis", vmin=0, vmax=100, aspect="auto")
    for row, task in enumerate(tasks):
        for column, name in enumerate(grid.columns):
            cell = grid.cells[task, name]
            if cell.rate is not None:
                text = f"{100 * cell.rate:.0f}{MARK if cell.errors else ''}"
                colour = "white" if cell.rate < 0.5 else "black"
                panel.text(column, row, text, ha="center", va="center", fontsize=5, color=colour)
    names = [name.replace("_", " ") for name in grid.columns]
    panel.set_xticks(range(len(names)), names, rotation=30, ha="right", rotation_mode="anchor", fontsize=6)
    panel.set_yticks(range(len(tasks)), [_short(task) for task in tasks], fontsize=5.5)
    panel.tick_params(length=0)
    panel.grid(visible=False)
    for spine in panel.spines.values():
        spine.set_visible(False)
    return image


def _short(task: str) -> str:
    """A task's stem in words, without its suite, cut where it is long."""
    words = task.partition("/")[2].replace("_", " ")
    return words if len(words) <= 44 else f"{words[:42]}…"
