"""F6: how long inferences took, as cumulative shares: what was computed here, and what the clock was told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from vla_bench.account.counted import Counted
from vla_bench.account.figures.figure import (
    Figure,
    Look,
    fitting_width_in,
    legend,
    legend_height_in,
    logarithmic,
    looks,
    new_drawing,
)
from vla_bench.account.tables.table import ARM_COLUMNS, arm_numbers
from vla_bench.run.records import Inferences, latencies_ms, together
from vla_bench.types import Arm, Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

PANEL_HEIGHT_IN = 1.9
SHARES = np.linspace(0, 1, 201)
LEAST_MS = 1e-4  # a logarithmic axis has no place for nothing


@dataclass(frozen=True, slots=True)
class Curve:
    """Quantiles of an arm's latencies at `SHARES`, in milliseconds."""

    arm: Arm
    n: int
    quantiles_ms: Array


def figures(counted: Counted) -> Iterator[Figure]:
    """`latency`, where inferences took measurable time."""
    computed = _curves(counted, latencies_ms)
    delays = _curves(counted, partial(together, name="delay_ms"))
    told = [curve for curve in delays if curve.quantiles_ms[-1] > 0]
    panels = {"computed on the device of the run": computed, "on the virtual clock": told}
    panels = {title: curves for title, curves in panels.items() if curves}
    if not panels:
        return
    periods_ms = sorted({1000 * period for period in counted.header.periods_s.values()})
    sentences = (
        "Share of inferences that took at most so long, over all episodes that count.",
        "Left: what policies computed, which success does not depend on unless the latency source is "
        "measured or live; right: the delays that the virtual clock was told, where there were any."
        if len(panels) > 1
        else "",
        "Dotted: the policy period, the control deadline." if periods_ms else "",
    )
    yield Figure(
        name="latency", title="Latency of inference", caption=tuple(filter(None, sentences)),
        header=("what", *ARM_COLUMNS, "inferences", "share", "latency_ms"),
        rows=tuple(
            (title, *arm_numbers(curve.arm), curve.n, float(share), float(value))
            for title, curves in panels.items()
            for curve in curves
            for share, value in zip(SHARES[::2], curve.quantiles_ms[::2], strict=True)
        ),
        draw=partial(_draw, panels, looks(counted.arms), periods_ms),
    )  # fmt: skip


def _curves(counted: Counted, of: Callable[[Iterable[Inferences]], Array]) -> list[Curve]:
    found = {arm: of(record.inferences for record in counted.records(arm)) for arm in counted.arms}
    return [Curve(arm, v.size, np.quantile(v, SHARES)) for arm, v in found.items() if v.size]


def _draw(
    panels: Mapping[str, Sequence[Curve]], drawn_as: Mapping[Arm, Look], periods_ms: Sequence[float]
) -> Drawing:
    width = fitting_width_in(drawn_as.values(), wide=len(panels) > 1)
    drawing = new_drawing(width, PANEL_HEIGHT_IN + legend_height_in(drawn_as.values(), width))
    axes = drawing.subplots(1, len(panels), sharey=True, squeeze=False).flatten()
    for axis, (title, curves) in zip(axes, panels.items(), strict=True):
        for curve in curves:
            look = drawn_as[curve.arm]
            axis.plot(
                np.maximum(curve.quantiles_ms, LEAST_MS), 100 * SHARES, color=look.colour, label=look.label,
                marker=look.marker, markevery=(20, 40), markersize=3,
            )  # fmt: skip
        for period_ms in periods_ms:
            axis.axvline(period_ms, color="#222222", linestyle=":", linewidth=0.9)
        marks = [ms for curve in curves for ms in curve.quantiles_ms[[0, -1]]] + list(periods_ms)
        logarithmic(axis, max(min(marks), LEAST_MS), max(marks))
        axis.set_xlabel(f"latency {title}, ms")
        axis.set_ylim(0, 101)
        axis.set_yticks([0, 25, 50, 75, 100])
    drawing.supylabel("inferences, %", fontsize=7)
    legend(drawing)
    return drawing
