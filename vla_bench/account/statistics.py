"""Statistics of rates and of paired differences: pure functions of counts, computed by libraries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Interval:
    """Lower and upper end of something in [0, 1]."""

    low: float
    high: float


def wilson(successes: int, n: int, confidence: float) -> Interval | None:
    """Wilson score interval of a rate; None without trials."""
    if n == 0:
        return None
    from statsmodels.stats.proportion import proportion_confint

    low, high = np.asarray(proportion_confint(successes, n, alpha=1 - confidence, method="wilson"))
    return Interval(float(low), float(high))


def error_bounds(successes: int, n: int, errors: int) -> Interval | None:
    """The rate if every error had been a failure, and if each had been a success; None without either."""
    if n + errors == 0:
        return None
    return Interval(successes / (n + errors), (successes + errors) / (n + errors))


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

    Raises:
        ValueError: The lengths differ: these are no pairs.
    """
    from scipy.stats import binomtest

    first_only = sum(a and not b for a, b in zip(first, second, strict=True))
    second_only = sum(b and not a for a, b in zip(first, second, strict=True))
    if not first:
        return None
    discordant = first_only + second_only
    p_value = float(binomtest(first_only, discordant).pvalue) if discordant else 1.0
    return PairedDifference(len(first), first_only, second_only, p_value)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given: valid however the tests depend on each other.

    The same numbers as statsmodels' `multipletests`, which collects the garbage of the whole process at each
    call: seconds, with a run's records in memory.
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1)))
    return adjusted.tolist()
