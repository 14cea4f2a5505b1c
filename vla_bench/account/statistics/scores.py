"""Two arms with partial credit: tests of paired scores, for these tasks or for further ones."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vla_bench.account.statistics.resampling import Over, per_episode
from vla_bench.account.statistics.signs import sign_flip


@dataclass(frozen=True, slots=True)
class ScoreDifference:
    """Scores of two arms compared.

    Attributes:
        n: Observations: episodes, or tasks where the claim is about further tasks.
        difference: Mean of first - second over the observations.
        p_value: Two-sided sign-flip test of the mean; `test` says how it was computed.
        p_wilcoxon: Wilcoxon's signed-rank test (1945), which asks for the order of differences alone; 1 where
            nothing differs.
    """

    n: int
    difference: float
    p_value: float
    test: str
    p_wilcoxon: float


def paired_scores(
    first: Sequence[float],
    second: Sequence[float],
    tasks: Sequence[Hashable],
    rng: np.random.Generator,
    *,
    over: Over = "seeds",
    episodes: Sequence[Hashable] | None = None,
) -> ScoreDifference | None:
    """Compare scores (or successes) in [0, 1] on the same episodes; None without any.

    Over seeds an observation is an episode, over tasks the mean of a task: T tasks cannot give p below
    2^(1 - T), and `test` says so where that is above .05. Rows of one `episodes` value are draws of one
    episode and are averaged first.

    Raises:
        ValueError: The lengths differ.
    """
    rows = np.array([a - b for a, b in zip(map(float, first), map(float, second), strict=True)])
    values, of_tasks = per_episode(rows[:, None], tasks, episodes)
    if not len(values):
        return None
    observed = values[:, 0] if over == "seeds" else _task_means(values[:, 0], of_tasks)
    found = sign_flip(observed, rng)
    unable = over == "tasks" and 2.0 ** (1 - observed.size) > 0.05
    limit = f"; {observed.size} tasks cannot give p below {2.0 ** (1 - observed.size):g}" if unable else ""
    from scipy.stats import wilcoxon

    ranked: Any = wilcoxon(observed) if np.any(observed) else None
    p_wilcoxon = 1.0 if ranked is None else float(ranked.pvalue)
    return ScoreDifference(
        observed.size, float(observed.mean()), found.p_value, found.method + limit, p_wilcoxon
    )


def _task_means(values: np.ndarray, tasks: Sequence[Hashable]) -> np.ndarray:
    grouped: dict[Hashable, list[float]] = {}
    for value, task in zip(values, tasks, strict=True):
        grouped.setdefault(task, []).append(float(value))
    return np.array([np.mean(own) for own in grouped.values()])
