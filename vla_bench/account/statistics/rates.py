"""One rate: intervals, and the posterior of a uniform prior.

Wilson's interval is the default: its mean coverage is near the nominal one at any rate and n, at the price of
dips below it (Brown, Cai and DasGupta 2001, Statistical Science 16(2)). The exact one never covers less.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from vla_bench.account.statistics.values import Interval
from vla_bench.types import Array

RateMethod = Literal["wilson", "exact", "jeffreys"]


def wilson(successes: int, n: int, confidence: float) -> Interval | None:
    """Wilson score interval of a rate (Wilson 1927); None without trials."""
    return _of_statsmodels(successes, n, confidence, "wilson")


def exact(successes: int, n: int, confidence: float) -> Interval | None:
    """Clopper and Pearson's interval (1934): covers at least as often as it says; None without trials."""
    return _of_statsmodels(successes, n, confidence, "beta")


def jeffreys(successes: int, n: int, confidence: float) -> Interval | None:
    """Equal-tailed interval of Jeffreys' posterior Beta(k + 1/2, n - k + 1/2); None without trials.

    It begins at 0 without successes and ends at 1 without failures (Brown, Cai and DasGupta 2001), or it
    would never cover a rate of 0 or 1.
    """
    found = _of_statsmodels(successes, n, confidence, "jeffreys")
    if found is None:
        return None
    return Interval(0.0 if successes == 0 else found.low, 1.0 if successes == n else found.high)


RATE_INTERVALS: dict[RateMethod, Callable[[int, int, float], Interval | None]] = {
    "wilson": wilson,
    "exact": exact,
    "jeffreys": jeffreys,
}


def error_bounds(successes: int, n: int, errors: int) -> Interval | None:
    """The rate if every error had been a failure, and if each had been a success; None without either."""
    if n + errors == 0:
        return None
    return Interval(successes / (n + errors), (successes + errors) / (n + errors))


def posterior_density(successes: int, n: int, rates: Array) -> Array:
    """Density of Beta(k + 1, n - k + 1), the posterior of a uniform prior, at `rates` in [0, 1].

    Without trials it is 1 everywhere: the prior.
    """
    _check(successes, n)
    from scipy.stats import beta

    return np.asarray(beta.pdf(rates, successes + 1, n - successes + 1), dtype=float)


def probability_better(first: tuple[int, int], second: tuple[int, int]) -> float:
    """P(rate of the first > rate of the second) under independent uniform priors; arms are (successes, n).

    The closed sum over the first's successes, so that nothing is drawn:
    Σ_{i=0}^{a-1} B(i + c, b + d) / ((b + i) B(1 + i, b) B(c, d)) with the first's Beta(a, b) and the second's
    Beta(c, d) (Cook 2005, "Exact calculation of beta inequalities"). Pairing is not used: it is a description
    for unpaired arms, never a claim.
    """
    for successes, n in (first, second):
        _check(successes, n)
    from scipy.special import betaln

    a, b = first[0] + 1, first[1] - first[0] + 1
    c, d = second[0] + 1, second[1] - second[0] + 1
    i = np.arange(a)
    terms = betaln(c + i, d + b) - np.log(b + i) - betaln(1 + i, b) - betaln(c, d)
    return float(min(1.0, np.exp(terms).sum()))


def _of_statsmodels(successes: int, n: int, confidence: float, method: str) -> Interval | None:
    _check(successes, n)
    if n == 0:
        return None
    from statsmodels.stats.proportion import proportion_confint

    low, high = np.asarray(proportion_confint(successes, n, alpha=1 - confidence, method=method))
    return Interval(float(low), float(high))


def _check(successes: int, n: int) -> None:
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} trials: successes are between 0 and the trials")
