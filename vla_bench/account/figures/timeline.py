"""F7: one episode on the clock, arm below arm: when it saw, thought, and had a fresh action."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from vla_bench.account.counted import Counted
from vla_bench.account.figures.figure import WIDTH_IN, Figure, looks, new_drawing
from vla_bench.account.tables.table import ARM_COLUMNS, arm_numbers
from vla_bench.run.records import Inferences, Record
from vla_bench.types import Arm, Episode

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

LANE_IN = 0.42
MOST_ARMS = 8
SHOWN_INFERENCES = 12  # of the arm with the fewest in a second
THINKS, ACTS, STALE = "#E69F00", "#0072B2", "#cccccc"


@dataclass(frozen=True, slots=True)
class Call:
    """An inference on the clock, in seconds since the start.

    Attributes:
        observed_s: When its observation was made.
        applied_s: When its first action was applied.
        stale_from_s: Since when the robot had had nothing fresh by then.
        fresh_until_s: When the last of its actions that were used ended.
    """

    observed_s: float
    applied_s: float
    stale_from_s: float
    fresh_until_s: float


def figures(counted: Counted) -> Iterator[Figure]:
    """`timeline` of the first episode on which the most arms have something to show."""
    by_episode: dict[Episode, dict[Arm, Record]] = {}
    for arm in counted.arms:
        for record in counted.records(arm):
            if _is_timed(record.inferences):
                by_episode.setdefault(record.episode, {})[arm] = record
    if not by_episode:
        return
    most = max(map(len, by_episode.values()))
    episode, found = next((e, f) for e, f in by_episode.items() if len(f) == most)
    found = dict(list(found.items())[:MOST_ARMS])
    period_s = counted.header.periods_s.get(episode.task_id.partition("/")[0])
    lanes = {arm: calls_of(record, period_s) for arm, record in found.items()}
    end_s = _window(lanes)
    yield Figure(
        name="timeline", title=f"One episode on the clock: {episode.key}",
        caption=(
            f"The first {end_s:.1f} s of {episode.key}: when each arm observed (marks), thought, and had a "
            "fresh action to execute, or nothing fresh. Where neither is shown, the world stands still while "
            "the policy thinks (blocking), and thinking time is added to the clock.",
        ),
        header=(
            "episode", *ARM_COLUMNS, "inference", "observed_s", "applied_s", "stale_from_s", "fresh_until_s",
        ),
        rows=tuple(
            (episode.key, *arm_numbers(arm), i, c.observed_s, c.applied_s, c.stale_from_s, c.fresh_until_s)
            for arm, calls in lanes.items()
            for i, c in enumerate(calls)
        ),
        draw=partial(_draw, {looks(counted.arms)[arm].label: calls for arm, calls in lanes.items()}, end_s),
    )  # fmt: skip


def _is_timed(inferences: Inferences) -> bool:
    """Whether all that a clock shows was measured, and something took time on it."""
    columns = map(inferences.packed, ("delay_ms", "observed_ms", "observation_age_ms", "staleness_ms"))
    return all(columns) and any(inferences.delay_ms)


def calls_of(record: Record, period_s: float | None) -> list[Call]:
    """The inferences of a record on the clock of its task time.

    In real time an inference is applied `observation_age_ms` after its observation; where the world waits,
    all delays before it have been added to the clock, and it is applied after its own.
    """
    columns = record.inferences
    observed, delays, ages, stale = (
        np.asarray(column) / 1000
        for column in (
            columns.observed_ms, columns.delay_ms, columns.observation_age_ms, columns.staleness_ms
        )
    )  # fmt: skip
    if min(observed.size, delays.size, ages.size, stale.size) == 0:
        return []  # not all of it was measured
    waits = record.pacing == "blocking"
    if waits:
        observed = observed + np.concatenate([[0.0], np.cumsum(delays)[:-1]])
    applied = observed + (delays if waits else ages)
    stale_from = applied - stale
    last = record.task_s if period_s is None or waits else min(record.task_s, applied[-1] + period_s)
    fresh_until = np.append(observed[1:] if waits else stale_from[1:], max(last, applied[-1]))
    return [Call(*map(float, row)) for row in zip(observed, applied, stale_from, fresh_until, strict=True)]


def _window(lanes: Mapping[Arm, Sequence[Call]]) -> float:
    """As much as shows some inferences of the slowest arm, and at most the longest episode."""
    ends = [calls[min(SHOWN_INFERENCES, len(calls)) - 1].applied_s for calls in lanes.values() if calls]
    return max(0.1, min(max(ends), 6.0))


def _draw(lanes: Mapping[str, Sequence[Call]], end_s: float) -> Drawing:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    drawing = new_drawing(WIDTH_IN, len(lanes) * LANE_IN + 0.75)
    panel = drawing.subplots()
    for y, calls in enumerate(lanes.values()):
        think = [(c.observed_s, c.applied_s - c.observed_s) for c in calls]
        fresh = [(c.applied_s, c.fresh_until_s - c.applied_s) for c in calls if c.fresh_until_s > c.applied_s]
        idle = [(c.stale_from_s, c.applied_s - c.stale_from_s) for c in calls if c.applied_s > c.stale_from_s]
        panel.broken_barh(think, (y - 0.34, 0.3), facecolors=THINKS, edgecolor="white", linewidth=0.4)
        panel.broken_barh(fresh, (y + 0.02, 0.3), facecolors=ACTS, edgecolor="white", linewidth=0.4)
        panel.broken_barh(idle, (y + 0.02, 0.3), facecolors=STALE, linewidth=0)
        panel.plot([c.observed_s for c in calls], [y - 0.34] * len(calls), "k|", markersize=5)
    panel.set_yticks(range(len(lanes)), list(lanes))
    panel.set_ylim(len(lanes) - 0.5, -0.6)
    panel.set_xlim(0, end_s)
    panel.grid(axis="y", visible=False)
    panel.tick_params(axis="y", length=0)
    panel.set_xlabel("time on the task, s")
    handles = [
        Line2D([], [], color="k", marker="|", linestyle="none", label="observes"),
        Patch(color=THINKS, label="thinks"),
        Patch(color=ACTS, label="has a fresh action"),
        Patch(color=STALE, label="has nothing fresh"),
    ]
    drawing.legend(handles=handles, loc="outside upper center", ncols=4)
    return drawing
