"""Two arms on different episodes: other runs, published counts. Where there are pairs, use them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_bench.account.statistics.values import Interval

# Boschloo's test looks at every table at many nuisance rates: .6 s at 200 × 200, minutes at 2,000 × 2,000.
LARGEST_EXACT = 200 * 200


@dataclass(frozen=True, slots=True)
class UnpairedDifference:
    """Two independent rates compared.

    Attributes:
        difference: Rate of the first minus rate of the second.
        interval: Newcombe's hybrid score interval (1998, method 10).
        p_value: Two-sided; `test` says whose.
    """

    difference: float
    interval: Interval
    p_value: float
    test: str


def unpaired_difference(
    first: tuple[int, int], second: tuple[int, int], confidence: float
) -> UnpairedDifference | None:
    """Compare two arms given as (successes, n); None where one has no episodes.

    Boschloo's exact test (1970), which is never less powerful than Fisher's; where the arms are too large for
    it (beyond 200 × 200) the pooled score test, which is asymptotic: its type-I error may pass the nominal
    one by less than a point.
    """
    (k1, n1), (k2, n2) = first, second
    if n1 == 0 or n2 == 0:
        return None
    from statsmodels.stats.proportion import confint_proportions_2indep

    low, high = confint_proportions_2indep(k1, n1, k2, n2, method="newcomb", alpha=1 - confidence)
    if n1 * n2 <= LARGEST_EXACT:
        from scipy.stats import boschloo_exact

        p_value, test = float(boschloo_exact([[k1, k2], [n1 - k1, n2 - k2]]).pvalue), "Boschloo"
    else:
        p_value, test = _pooled_score(k1, n1, k2, n2), "pooled score test (asymptotic)"
    return UnpairedDifference(k1 / n1 - k2 / n2, Interval(float(low), float(high)), p_value, test)


def _pooled_score(k1: int, n1: int, k2: int, n2: int) -> float:
    pooled = (k1 + k2) / (n1 + n2)
    if pooled in (0.0, 1.0):
        return 1.0
    from scipy.stats import norm

    z = (k1 / n1 - k2 / n2) / np.sqrt(pooled * (1 - pooled) * (1 / n1 + 1 / n2))
    return float(2 * norm.sf(abs(z)))
