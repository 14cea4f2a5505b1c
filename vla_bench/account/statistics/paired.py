"""Two arms on the same episodes: exact tests, and intervals that know tasks and seeds."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from vla_bench.account.statistics.resampling import Over, mean_estimate, per_episode
from vla_bench.account.statistics.values import Estimate


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Two arms on the same n episodes.

    Attributes:
        first_only, second_only: Episodes where one succeeded and the other did not.
        p_value: Exact McNemar: two-sided binomial test of the discordant pairs against one half.
    """

    n: int
    first_only: int
    second_only: int
    p_value: float

    @property
    def difference(self) -> float:
        """Rate of the first minus rate of the second."""
        return (self.first_only - self.second_only) / self.n


def paired_difference(first: Sequence[bool], second: Sequence[bool]) -> PairedDifference | None:
    """Compare two arms episode by episode; None without pairs.

    The test is exact for the null that at every discordant pair either arm is as likely to be the one that
    succeeded (McNemar 1947); without discordant pairs p = 1.

    Raises:
        ValueError: The lengths differ: these are no pairs.
    """
    from scipy.stats import binomtest

    first_only = sum(bool(a and not b) for a, b in zip(first, second, strict=True))
    second_only = sum(bool(b and not a) for a, b in zip(first, second, strict=True))
    if len(first) == 0:
        return None
    discordant = first_only + second_only
    p_value = float(binomtest(first_only, discordant).pvalue) if discordant else 1.0
    return PairedDifference(len(first), first_only, second_only, p_value)


def paired_estimate(
    first: Sequence[float],
    second: Sequence[float],
    tasks: Sequence[Hashable],
    confidence: float,
    rng: np.random.Generator,
    *,
    over: Over = "seeds",
    episodes: Sequence[Hashable] | None = None,
) -> Estimate | None:
    """Mean difference first - second with an interval; None without pairs.

    Outcomes are successes or scores in [0, 1]. `over` says what is generalised over (see `mean_estimate`):
    the default is "these tasks, seeds as replicates"; "tasks" is the claim about further tasks. Rows of one
    `episodes` value are repeated draws of one episode (a stochastic policy): their mean is one observation.

    Raises:
        ValueError: The lengths differ.
    """
    differences = np.array([a - b for a, b in zip(map(float, first), map(float, second), strict=True)])
    values, of_tasks = per_episode(differences[:, None], tasks, episodes)
    return None if not len(values) else mean_estimate(values, of_tasks, confidence, rng, over=over)[0]
