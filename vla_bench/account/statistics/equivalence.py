"""No worse, as good, and reproduced: two one-sided tests (TOST; Schuirmann 1987) against a margin.

A difference that is not significant is no sameness. Here the null is that the difference is at least the
margin, and only enough episodes reject it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from vla_bench.account.statistics.values import Interval


@dataclass(frozen=True, slots=True)
class Equivalence:
    """First arm minus second arm against a margin.

    Attributes:
        difference: Of the rates.
        interval: Of the difference with confidence 1 - 2 alpha, inside the margin where equivalence is
            shown (independent arms: to rounding).
        margin: In (0, 1): 0.05 is five points.
        p_no_worse: One-sided, null: the first is worse by the margin or more.
        p_no_better: One-sided, null: the first is better by the margin or more.
    """

    difference: float
    interval: Interval
    margin: float
    p_no_worse: float
    p_no_better: float
    test: str

    @property
    def p_equivalent(self) -> float:
        """Null: the difference is the margin or more, either way."""
        return max(self.p_no_worse, self.p_no_better)


def paired_equivalence(
    first_only: int, second_only: int, n: int, margin: float, alpha: float = 0.05
) -> Equivalence | None:
    """Paired arms, by the score test of Nam (1997) and Tango (1998); None without pairs.

    It needs no discordant pair: with none among n, z = √(n · margin / (1 - margin)). Asymptotic.

    Raises:
        ValueError: The margin is not in (0, 1), or the counts are impossible.
    """
    _check_margin(margin)
    if min(first_only, second_only) < 0 or first_only + second_only > n:
        raise ValueError(f"{first_only} and {second_only} discordant pairs of {n}")
    if n == 0:
        return None
    from scipy.stats import norm

    return Equivalence(
        (first_only - second_only) / n,
        tango_interval(first_only, second_only, n, 1 - 2 * alpha),
        margin,
        p_no_worse=float(norm.sf(tango_z(first_only, second_only, n, -margin))),
        p_no_better=float(norm.cdf(tango_z(first_only, second_only, n, margin))),
        test="paired score test (Tango)",
    )


def tango_z(first_only: int, second_only: int, n: int, difference: float) -> float:
    """Score statistic of paired rates for the null that they differ by `difference` in (-1, 1).

    (b - c - nδ) / √(n (2 q + δ (1 - δ))), where q is the share of pairs that the second wins under the
    null, the root of a quadratic equation (Tango 1998, Statistics in Medicine 17(8)).
    """
    b, c, delta = first_only, second_only, difference
    linear = -b - c + (2 * n - b + c) * delta
    constant = -c * delta * (1 - delta)
    q = (np.sqrt(max(0.0, linear**2 - 8 * n * constant)) - linear) / (4 * n)
    variance = n * (2 * q + delta * (1 - delta))
    distance = b - c - n * delta
    if variance <= 1e-12 * n:
        return float(np.sign(distance) * np.inf) if abs(distance) > 1e-9 else 0.0
    return float(distance / np.sqrt(variance))


def tango_interval(first_only: int, second_only: int, n: int, confidence: float) -> Interval:
    """Differences that the score test does not reject: asymptotic, good down to no discordant pair at all."""
    from scipy.optimize import brentq
    from scipy.stats import norm

    z, middle, edge = float(norm.ppf((1 + confidence) / 2)), (first_only - second_only) / n, 1 - 1e-12

    def end(outside: float, target: float) -> float:
        def excess(delta: float) -> float:
            return float(np.clip(tango_z(first_only, second_only, n, delta), -1e6, 1e6)) - target

        if excess(outside) * excess(middle) >= 0:
            return float(round(outside))
        root: Any = brentq(excess, outside, middle)
        return float(root)

    return Interval(end(-edge, z), end(edge, -z))


def unpaired_equivalence(
    first: tuple[int, int], second: tuple[int, int], margin: float, alpha: float = 0.05
) -> Equivalence | None:
    """Independent arms (successes, n); None where one has no episodes.

    The score test of Farrington and Manning (1990), asymptotic; the interval is Newcombe's.

    Raises:
        ValueError: The margin is not in (0, 1).
    """
    _check_margin(margin)
    (k1, n1), (k2, n2) = first, second
    if n1 == 0 or n2 == 0:
        return None
    from statsmodels.stats.proportion import confint_proportions_2indep

    low, high = confint_proportions_2indep(k1, n1, k2, n2, method="newcomb", alpha=2 * alpha)
    return Equivalence(
        k1 / n1 - k2 / n2,
        Interval(float(low), float(high)),
        margin,
        p_no_worse=_score_below(second, first, margin),
        p_no_better=_score_below(first, second, margin),
        test="score test (Farrington and Manning)",
    )


def _score_below(first: tuple[int, int], second: tuple[int, int], margin: float) -> float:
    """One-sided p for first - second < margin. Of both sides: statsmodels' other one rounds badly at 0/n."""
    from statsmodels.stats.proportion import test_proportions_2indep

    with np.errstate(all="ignore"):  # ratios of the rates, which are not asked for
        found: Any = test_proportions_2indep(
            *first, *second, value=margin, method="score", compare="diff", alternative="smaller"
        )
    return float(found.pvalue)


def _check_margin(margin: float) -> None:
    if not 0 < margin < 1:
        raise ValueError(f"margin {margin:g}: a difference of rates, between 0 and 1 (0.05 is five points)")
