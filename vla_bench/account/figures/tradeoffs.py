"""F2: success against memory and against frequency, with the line of the arms that nothing beats in both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from vla_bench.account.cells import Cell
from vla_bench.account.counted import Counted, Place
from vla_bench.account.figures.figure import (
    GREY,
    Figure,
    Look,
    fitting_width_in,
    legend,
    legend_height_in,
    logarithmic,
    looks,
    new_drawing,
)
from vla_bench.account.statistics import Interval
from vla_bench.account.tables.table import ARM_COLUMNS, arm_numbers, ends
from vla_bench.types import Arm

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

PANEL_HEIGHT_IN = 2.1


@dataclass(frozen=True, slots=True)
class Point:
    """An arm in a panel; `x` is in the unit that its panel names."""

    arm: Arm
    x: float
    rate: float
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class Panel:
    """Success against one cost: its axis, whether more of it is better, and what must be reached."""

    label: str
    more_is_better: bool
    points: tuple[Point, ...]
    deadline: float | None = None


def figures(counted: Counted) -> Iterator[Figure]:
    """`tradeoffs_<suite>`, where memory or frequencies are known and there are at least two arms."""
    drawn_as = looks(counted.arms)
    for place in counted.unvaried:
        period_s = counted.header.periods_s.get(place.suite)
        panels = [panel for panel in _panels(place.cells, period_s) if len(panel.points) > 1]
        if panels:
            yield _figure(place, panels, drawn_as, counted.confidence)


def _figure(place: Place, panels: Sequence[Panel], drawn_as: Mapping[Arm, Look], confidence: float) -> Figure:
    deadline = any(panel.deadline for panel in panels)
    sentences = (
        f"Unvaried episodes, each with the same weight; whiskers: {100 * confidence:g} % Wilson intervals.",
        "Dashed: arms that no other beats in both (by their estimates, not by a test).",
        "Frequency is 1 / median of what one inference computed, on the device of the run.",
        "Dotted: one inference a policy period, the control deadline." if deadline else "",
    )
    return Figure(
        name=f"tradeoffs_{place.suite}", title=f"Success against memory and frequency, {place.suite}",
        caption=tuple(filter(None, sentences)),
        header=(*ARM_COLUMNS, "cost", "x", "rate", "low", "high"),
        rows=tuple(
            (*arm_numbers(point.arm), panel.label, point.x, point.rate, *ends(point.interval))
            for panel in panels
            for point in panel.points
        ),
        draw=partial(_draw, panels, drawn_as),
    )  # fmt: skip


def _panels(cells: Sequence[Cell], period_s: float | None) -> Iterator[Panel]:
    def points(cost: Mapping[Arm, float | None]) -> tuple[Point, ...]:
        return tuple(
            Point(cell.arm, x, cell.rate, cell.interval)
            for cell in cells
            if (x := cost[cell.arm]) and cell.rate is not None
        )

    def memory(label: str, sizes: Mapping[Arm, int | None]) -> Panel:
        unit, name = (1e9, "GB") if max(size or 0 for size in sizes.values()) >= 1e9 else (1e6, "MB")
        scaled = {arm: None if size is None else size / unit for arm, size in sizes.items()}
        return Panel(f"{label}, {name}", False, points(scaled))

    yield memory("memory of the weights", {cell.arm: cell.weights_bytes for cell in cells})
    yield memory("peak memory of the GPU", {cell.arm: cell.peak_bytes for cell in cells})
    frequencies = {cell.arm: cell.policy_hz for cell in cells}
    yield Panel("policy frequency, Hz", True, points(frequencies), 1 / period_s if period_s else None)


def pareto(points: Sequence[Point], *, more_is_better: bool) -> list[Point]:
    """The points that no other equals or beats in both coordinates, by x; of equal ones all."""
    sign = 1 if more_is_better else -1

    def beaten(point: Point) -> bool:
        return any(
            other.rate >= point.rate
            and sign * other.x >= sign * point.x
            and (other.rate, other.x) != (point.rate, point.x)
            for other in points
        )

    return sorted((point for point in points if not beaten(point)), key=lambda point: (point.x, point.rate))


def _draw(panels: Sequence[Panel], drawn_as: Mapping[Arm, Look]) -> Drawing:
    width = fitting_width_in(drawn_as.values(), wide=len(panels) > 1)
    drawing = new_drawing(width, PANEL_HEIGHT_IN + legend_height_in(drawn_as.values(), width))
    axes = drawing.subplots(1, len(panels), sharey=True, squeeze=False).flatten()
    for panel, axis in zip(panels, axes, strict=True):
        _draw_panel(axis, panel, drawn_as)
    drawing.supylabel("success, %", fontsize=7)
    legend(drawing)
    return drawing


def _draw_panel(axis: Axes, panel: Panel, drawn_as: Mapping[Arm, Look]) -> None:
    front = pareto(panel.points, more_is_better=panel.more_is_better)
    axis.plot([p.x for p in front], [100 * p.rate for p in front], color=GREY, linestyle="--", linewidth=0.8)
    for point in panel.points:
        look, y = drawn_as[point.arm], 100 * point.rate
        low, high = (100 * point.interval.low, 100 * point.interval.high) if point.interval else (y, y)
        axis.errorbar(
            [point.x], [y], [[max(0, y - low)], [max(0, high - y)]], fmt=look.marker, color=look.colour,
            label=look.label, elinewidth=0.7, capsize=1.5, capthick=0.7, clip_on=False,
        )  # fmt: skip
    if panel.deadline:
        axis.axvline(panel.deadline, color="#222222", linestyle=":", linewidth=0.9)
        axis.annotate(
            f"deadline {panel.deadline:g} Hz", (panel.deadline, 50), xytext=(3, 0), rotation=90,
            textcoords="offset points", fontsize=6, va="center",
        )  # fmt: skip
    marks = [point.x for point in panel.points] + ([panel.deadline] if panel.deadline else [])
    logarithmic(axis, min(marks), max(marks))
    axis.set_ylim(-3, 103)
    axis.set_yticks([0, 25, 50, 75, 100])
    axis.set_xlabel(panel.label)
