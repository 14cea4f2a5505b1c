"""Means over episodes with intervals from the bootstrap: over seeds within tasks, or over tasks.

What is resampled decides what is claimed. Over seeds: these tasks, other starts; tasks are strata and stay.
Over tasks: other tasks like these; a task is drawn with all of its episodes (Davison and Hinkley 1997, §3.8:
drawing seeds anew inside would count their noise twice, for the task means already have it).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Literal

import numpy as np

from vla_bench.account.statistics.values import Estimate, Interval
from vla_bench.types import Array

Over = Literal["seeds", "tasks"]
RESAMPLES = 4_000
# In how many episodes arms must differ for the coverage to be within 1.5 points of what is said
# (docs/statistics.md).
FEWEST_DIFFERING = 8
BCA_TASKS = 60  # with fewer its intervals are too short: they covered 92.8 % at 20 tasks, 93.6 % at 40


def per_episode(
    values: Array, tasks: Sequence[Hashable], episodes: Sequence[Hashable] | None
) -> tuple[Array, list[Hashable]]:
    """Average the rows of `values` (rows, k) that are draws of one episode; None: each row is an episode.

    Returns (n, k) and the task of each, in order of first appearance. An episode is a value of `episodes`
    within a task.

    Raises:
        ValueError: The lengths differ.
    """
    if len(values) != len(tasks) or (episodes is not None and len(episodes) != len(values)):
        raise ValueError(
            f"{len(values)} rows, {len(tasks)} tasks"
            + (f", {len(episodes)} episodes" if episodes is not None else "")
        )
    if episodes is None:
        return values, list(tasks)
    keys = list(zip(tasks, episodes, strict=True))
    place = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    index = np.array([place[key] for key in keys], dtype=int)
    sums = np.zeros((len(place), values.shape[1]))
    np.add.at(sums, index, values)
    return sums / np.bincount(index, minlength=len(place))[:, None], [task for task, _ in place]


def mean_estimate(
    values: Array,
    tasks: Sequence[Hashable],
    confidence: float,
    rng: np.random.Generator,
    *,
    over: Over = "seeds",
) -> list[Estimate]:
    """Means of the columns of `values` (n, k) over n >= 1 episodes, each with an interval.

    Columns are resampled together. Equal weight to every episode, so to every task where tasks have equally
    many.
    """
    groups = [values[[i for i, own in enumerate(tasks) if own == task]] for task in dict.fromkeys(tasks)]
    if over == "tasks":
        return _over_tasks(groups, confidence, rng)
    return _over_seeds(groups, confidence, rng)


def _over_seeds(groups: Sequence[Array], confidence: float, rng: np.random.Generator) -> list[Estimate]:
    """Percentile intervals, episodes drawn within tasks.

    Three things keep the coverage (docs/statistics.md). Deviations are scaled by √(m / (m - 1)), for the
    plug-in variance of m episodes is too small by that (Rao and Wu 1988). One made-up episode is drawn along
    that either side wins by lot, for arms near 0 or 1 differ too seldom to know the variance (Bonett and
    Price 2012 add such to the normal interval). And sums of whole numbers are smoothed over one step, or
    percentiles would jump (Silverman and Young 1987). The estimate itself is the plain mean.
    """
    n, k = sum(map(len, groups)), groups[0].shape[1]
    means = np.concatenate(groups).mean(axis=0)
    if n == 1:
        return [Estimate(float(mean), None, "one episode: no interval") for mean in means]
    made_up = rng.choice([-1.0, 1.0], size=(RESAMPLES, 1)) + rng.uniform(-0.5, 0.5, size=(RESAMPLES, 1))
    drawn = np.repeat(made_up, k, axis=1)
    for stratum in _strata(groups):
        m = len(stratum)
        kinds, found = np.unique(stratum, axis=0, return_counts=True)  # few: draw how often each comes
        counts = rng.multinomial(m, found / m, size=RESAMPLES)
        drawn += np.sqrt(m / (m - 1)) * ((counts - found) @ kinds)
    quantiles = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    bound = max(1.0, float(max(np.abs(group).max() for group in groups)))  # an interaction goes to ±2
    ends = np.clip((means * n + quantiles) / (n + 1), -bound, bound)
    method = f"bootstrap of seeds within tasks, {RESAMPLES:,} draws"
    differing = np.count_nonzero(np.concatenate(groups), axis=0)
    return [
        Estimate(float(mean), Interval(float(low), float(high)), method, _sparse(int(count)))
        for mean, low, high, count in zip(means, *ends, differing, strict=True)
    ]


def _sparse(differing: int) -> str:
    """The warning of a mean over episodes of which so many are not 0."""
    if differing >= FEWEST_DIFFERING:
        return ""
    return (
        f"arms differ in {differing} episodes, fewer than {FEWEST_DIFFERING}: the interval may cover less, "
        "or more, often than it says"
    )


def _strata(groups: Sequence[Array]) -> list[Array]:
    """Tasks, those with a single episode together: alone they have no variance (Cochran 1977, §5A.12)."""
    strata = [group for group in groups if len(group) > 1]
    single = [group for group in groups if len(group) == 1]
    if len(single) == 1 and strata:
        strata[0] = np.concatenate([strata[0], single[0]])
    elif single:
        strata.append(np.concatenate(single))
    return strata


def _over_tasks(groups: Sequence[Array], confidence: float, rng: np.random.Generator) -> list[Estimate]:
    """Task means as the observations: BCa with many tasks, Student's t with few."""
    means = np.array([group.mean(axis=0) for group in groups])
    tasks = len(groups)
    if tasks == 1:
        return [Estimate(float(mean), None, "one task: nothing is known of others") for mean in means[0]]
    from scipy import stats

    found = []
    for column in means.T:
        middle = float(column.mean())
        if np.ptp(column) == 0:
            found.append(Estimate(middle, None, f"all {tasks} tasks alike: no interval over tasks"))
        elif tasks < BCA_TASKS:
            half = float(stats.t.ppf((1 + confidence) / 2, tasks - 1) * stats.sem(column))
            found.append(
                Estimate(middle, Interval(middle - half, middle + half), f"Student's t over {tasks} tasks")
            )
        else:
            ends = stats.bootstrap(
                (column,), np.mean, confidence_level=confidence, n_resamples=RESAMPLES, method="BCa", rng=rng
            ).confidence_interval
            found.append(
                Estimate(
                    middle, Interval(float(ends[0]), float(ends[1])), f"BCa bootstrap over {tasks} tasks"
                )
            )
    return found
