"""F3: success against latency, on still and on moving targets, by suite and by task, with L50."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from vla_bench import seeding
from vla_bench.account import timing
from vla_bench.account.counted import Counted
from vla_bench.account.figures.figure import (
    COLUMN_WIDTH_IN,
    WIDTH_IN,
    Figure,
    Look,
    legend,
    legend_height_in,
    looks,
    new_drawing,
)
from vla_bench.account.half_success import HalfPoint, half_point
from vla_bench.account.statistics import Interval, wilson
from vla_bench.account.tables.table import UNDEFINED, Number, Table, ends
from vla_bench.account.timing import Scope
from vla_bench.types import Arm

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

LEAST_LATENCIES = 4  # fewer are a comparison, and no curve
PANEL_HEIGHT_IN = 1.6
PANELS_IN_A_ROW = 3
TITLE_WIDTH = 36  # characters


@dataclass(frozen=True, slots=True)
class Curve:
    """Success of a policy against latency on some episodes.

    Attributes:
        arm: What its arms have in common; the latency is empty.
        latencies_ms: (k,) ascending medians.
        successes: At each of them, of the same `n` episodes.
        intervals: Wilson.
        half: L50; None where no claim is made.
        refused: Why no claim is made; "" where one is.
    """

    scope: Scope
    arm: Arm
    latencies_ms: tuple[float, ...]
    successes: tuple[int, ...]
    n: int
    intervals: tuple[Interval | None, ...]
    half: HalfPoint | None
    refused: str


def tables(counted: Counted) -> Iterator[Table]:
    """`latency_half`: L50 by suite, and by task in detail."""
    if not _is_swept(counted):
        return
    for name, title, scopes in (
        ("latency_half", "Half success: L50 by suite", timing.by_suite(counted)),
        ("latency_half_tasks", "Half success: L50 by task", timing.by_task(counted)),
    ):
        curves = [curve for scope in scopes for curve in _curves(counted, scope)]
        if curves:
            yield _table(name, title, curves, counted.confidence, detail=name != "latency_half")


def figures(counted: Counted) -> Iterator[Figure]:
    """`latency_curves_<suite>` and `latency_curves_<suite>_tasks`."""
    if not _is_swept(counted):
        return
    for ending, scopes in (("", timing.by_suite(counted)), ("_tasks", timing.by_task(counted))):
        by_suite: dict[str, list[Curve]] = {}
        for scope in scopes:
            by_suite.setdefault(scope.suite, []).extend(_curves(counted, scope))
        for suite, curves in by_suite.items():
            if curves:
                yield _figure(f"latency_curves_{suite}{ending}", suite, curves, counted.confidence)


def _is_swept(counted: Counted) -> bool:
    """Whether any arms differ in latency as often as a curve asks for."""
    return any(len(arms) >= LEAST_LATENCIES for arms in _groups(counted, counted.arms).values())


def _groups(counted: Counted, arms: Sequence[Arm]) -> dict[Arm, dict[float, Arm]]:
    """What arms have in common but for the latency → median latency in ms → arm."""
    found: dict[Arm, dict[float, Arm]] = {}
    for arm in arms:
        ms = timing.latency_ms(counted.header, arm)
        if ms is not None:
            found.setdefault(timing.without_latency(arm), {}).setdefault(ms, arm)
    return found


def _curves(counted: Counted, scope: Scope) -> Iterator[Curve]:
    """One for each policy, precision, pacing and chunk that was run with enough latencies."""
    for common, arms in _groups(counted, [arm for arm in counted.arms if scope.outcomes.get(arm)]).items():
        episodes = timing.shared(scope.outcomes, list(arms.values()))
        if len(arms) < LEAST_LATENCIES or not episodes:
            continue
        grid = sorted(arms)
        won = np.array([timing.succeeded(scope.outcomes, arms[ms], episodes) for ms in grid]).T
        successes, n = won.sum(axis=0), len(episodes)
        refused = timing.no_claim(int(successes[0]) if grid[0] == 0 else None, n)
        key = (counted.header.study_hash, scope.name, common.key)
        rng = seeding.generator("statistics", "latency curve", *key)
        tasks = [f"{episode.task_id}|{episode.variation}" for episode in episodes]
        half = None if refused else half_point(grid, won.astype(float), tasks, counted.confidence, rng)
        yield Curve(
            scope, common, tuple(grid), tuple(map(int, successes)), n,
            tuple(wilson(int(k), n, counted.confidence) for k in successes), half, refused,
        )  # fmt: skip


def _table(name: str, title: str, curves: Sequence[Curve], confidence: float, *, detail: bool) -> Table:
    return Table(
        name=name, title=title,
        caption=(
            "L50 is the latency (ms) at which success has fallen to half of what it is at zero latency: of "
            "the monotone curve nearest to the rates, linear between latencies that were run.",
            f"{100 * confidence:g} % intervals from the bootstrap of episodes within tasks, ends moved "
            "outwards to latencies that were run; >: beyond the longest.",
            f"Where the rate at zero latency is under {100 * timing.LEAST_RATE:g} %, nothing is claimed.",
        ),
        header=(
            "place", "policy", "precision", "pacing", "latencies", "episodes", "rate % at 0", "L50 ms",
            "interval",
        ),
        rows=tuple(
            (
                *_names(curve), str(len(curve.latencies_ms)), str(curve.n),
                f"{100 * curve.successes[0] / curve.n:.1f}" if curve.latencies_ms[0] == 0 else UNDEFINED,
                str(curve.half) if curve.half else curve.refused,
                curve.half.interval if curve.half else UNDEFINED,
            )
            for curve in curves
        ),
        text_columns=4, bold=frozenset(), detail=detail,
        numbers_header=(
            "place", "policy", "precision", "pacing", "latencies", "n", "successes_at_zero", "l50_ms",
            "low_ms", "high_ms", "longest_ms",
        ),
        numbers=tuple(
            (
                *_names(curve), len(curve.latencies_ms), curve.n,
                curve.successes[0] if curve.latencies_ms[0] == 0 else None,
                *((curve.half.ms, curve.half.low_ms, curve.half.high_ms) if curve.half else (None,) * 3),
                curve.latencies_ms[-1],
            )
            for curve in curves
        ),
    )  # fmt: skip


def _names(curve: Curve) -> tuple[str, str, str, str]:
    arm = curve.arm
    chunk = "" if arm.chunk_executed is None else f", chunk {arm.chunk_executed}"
    return curve.scope.name, arm.policy, arm.precision, arm.pacing + chunk


def _figure(name: str, suite: str, curves: Sequence[Curve], confidence: float) -> Figure:
    return Figure(
        name=name, title=f"Success against latency, {suite}",
        caption=(
            "The same episodes at every latency; x: median latency.",
            f"Bands: {100 * confidence:g} % Wilson intervals; vertical: L50, where success is half of that "
            "at zero latency, with its interval at the foot.",
            f"Dashed: no claim, for the rate at zero latency is under {100 * timing.LEAST_RATE:g} % or was "
            "not run.",
        ),
        header=("place", "policy", "precision", "pacing", "latency_ms", "successes", "n", "low", "high"),
        rows=tuple(row for curve in curves for row in _rows(curve)),
        draw=partial(_draw, tuple(curves), looks(list(dict.fromkeys(curve.arm for curve in curves)))),
    )  # fmt: skip


def _rows(curve: Curve) -> Iterator[tuple[Number, ...]]:
    for ms, successes, interval in zip(curve.latencies_ms, curve.successes, curve.intervals, strict=True):
        yield (*_names(curve), ms, successes, curve.n, *ends(interval))


def _draw(curves: Sequence[Curve], drawn_as: Mapping[Arm, Look]) -> Drawing:
    """A panel a place, a line an arm."""
    panels: dict[str, list[Curve]] = {}
    for curve in curves:
        panels.setdefault(curve.scope.name, []).append(curve)
    columns = min(PANELS_IN_A_ROW, len(panels))
    rows = math.ceil(len(panels) / columns)
    width = WIDTH_IN if columns > 1 else COLUMN_WIDTH_IN
    above = legend_height_in([drawn_as[curve.arm] for curve in curves], width)
    drawing = new_drawing(width, rows * PANEL_HEIGHT_IN + above)
    axes = drawing.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flatten()
    for axis, (name, own) in zip(axes, panels.items(), strict=False):
        _draw_panel(axis, own, drawn_as)
        axis.set_title(textwrap.fill(name.partition("/")[2].replace("_", " ") or name, TITLE_WIDTH))
    for axis in axes[len(panels) :]:
        axis.remove()
    drawing.supxlabel("latency, ms", fontsize=7)
    drawing.supylabel("success, %", fontsize=7)
    legend(drawing)
    return drawing


def _draw_panel(axis: Axes, curves: Sequence[Curve], drawn_as: Mapping[Arm, Look]) -> None:
    for curve in curves:
        look, x = drawn_as[curve.arm], curve.latencies_ms
        low = [100 * interval.low for interval in curve.intervals if interval]
        high = [100 * interval.high for interval in curve.intervals if interval]
        axis.fill_between(x, low, high, color=look.colour, alpha=0.15, linewidth=0)
        axis.plot(
            x, [100 * k / curve.n for k in curve.successes], color=look.colour, marker=look.marker,
            label=look.label, linestyle="--" if curve.refused else "-", clip_on=False,
        )  # fmt: skip
        if curve.half and curve.half.ms is not None:
            axis.axvline(curve.half.ms, color=look.colour, linestyle=":", linewidth=0.9)
            high_ms = curve.half.longest_ms if curve.half.high_ms is None else curve.half.high_ms
            axis.plot([curve.half.low_ms, high_ms], [2, 2], color=look.colour, linewidth=2, alpha=0.5)
    axis.set_ylim(0, 100)
    axis.set_yticks([0, 25, 50, 75, 100])
    axis.set_xlim(left=0)
