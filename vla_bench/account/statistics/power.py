"""How many episodes a comparison needs, and the smallest difference that so many can show.

Normal quantiles and sums alone, so that a plan is printed without loading anything.
"""

from __future__ import annotations

from math import asin, ceil, sin, sqrt
from statistics import NormalDist

import numpy as np

from vla_bench.types import Array

FEWEST_EPISODES = 30  # in a cell; a Wilson interval of fewer is wider than ±17 points


def required_unpaired(first: float, second: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """Episodes of each of two independent arms to tell two rates apart, two-sided.

    2 ((z_{1-α/2} + z_power) / h)² with Cohen's h = 2 asin √p - 2 asin √q (Cohen 1988, §6): what statsmodels'
    `NormalIndPower` solves.

    Raises:
        ValueError: The rates are equal: no number of episodes tells them apart.
    """
    effect = abs(2 * asin(sqrt(first)) - 2 * asin(sqrt(second)))
    if effect == 0:
        raise ValueError(f"both rates are {first:g}: no number of episodes tells them apart")
    return ceil(2 * (_quantiles(alpha, power) / effect) ** 2)


def detectable_unpaired(rate: float, n: int, alpha: float = 0.05, power: float = 0.8) -> float | None:
    """Smallest drop below `rate` that n episodes of each arm show; None if not even a drop to 0."""
    if n == 0:
        return None
    angle = 2 * asin(sqrt(rate)) - _quantiles(alpha, power) * sqrt(2 / n)
    return None if angle < 0 else rate - sin(angle / 2) ** 2


def mcnemar_power(n: int, discordance: float, difference: float, alpha: float = 0.05) -> float:
    """Probability that the exact McNemar test of n pairs finds `difference` at level alpha.

    `discordance` is the share of pairs whose arms differ; the count of those is binomial, and given them the
    test is (Lachenbruch 1992 calls it the unconditional power). No approximation.

    Raises:
        ValueError: |difference| exceeds the discordance, or that is not in (0, 1].
    """
    if not abs(difference) <= discordance <= 1 or discordance == 0:
        raise ValueError(
            f"difference {difference:g}, discordance {discordance:g}: the share of discordant pairs is at "
            "least the difference, and at most 1"
        )
    spread = 8 * sqrt(n * discordance * (1 - discordance)) + 1
    counts = np.arange(max(0, int(n * discordance - spread)), min(n, ceil(n * discordance + spread)) + 1)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    weights = _binomial(counts, n, discordance, log_factorial)
    share = (1 + difference / discordance) / 2
    found = 0.0
    for count, weight in zip(counts, weights, strict=True):
        wins = np.arange(count + 1)
        tail = np.cumsum(_binomial(wins, int(count), 0.5, log_factorial))
        rejected = 2 * tail <= alpha * (1 + 1e-9)  # by the side with fewer wins
        chances = _binomial(wins, int(count), share, log_factorial)
        found += weight * (chances[rejected].sum() + chances[::-1][rejected].sum())
    return float(min(1.0, found))


def required_pairs(difference: float, discordance: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """Pairs with which exact McNemar finds `difference` with this power, given the share of discordant pairs.

    From Connor's approximation (1987) upwards; the exact power rises in small saw-teeth, and the answer is
    right to within one of them.

    Raises:
        ValueError: As `mcnemar_power`, or the difference is 0.
    """
    if difference == 0:
        raise ValueError("difference 0: no number of pairs finds it")
    normal = NormalDist().inv_cdf
    low = max(
        1,
        int(
            (
                normal(1 - alpha / 2) * sqrt(discordance)
                + normal(power) * sqrt(max(0.0, discordance - difference**2))
            )
            ** 2
            / difference**2
        ),
    )
    high = 2 * low + 20
    while low < high:
        middle = (low + high) // 2
        if mcnemar_power(middle, discordance, difference, alpha) >= power:
            high = middle
        else:
            low = middle + 1
    return low


def detectable_paired(n: int, discordance: float, alpha: float = 0.05, power: float = 0.8) -> float | None:
    """Smallest difference that exact McNemar of n pairs finds with this power; None if there is none.

    Rounded up to a tenth of a point.
    """
    if n == 0 or mcnemar_power(n, discordance, discordance, alpha) < power:
        return None
    low, high = 0, ceil(1000 * discordance)
    while low + 1 < high:
        middle = (low + high) // 2
        reached = mcnemar_power(n, discordance, middle / 1000, alpha) >= power
        low, high = (low, middle) if reached else (middle, high)
    return min(high / 1000, discordance)


def required_equivalence(margin: float, variance: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """Episodes (or pairs) to show that equal arms differ by less than `margin`, by two one-sided tests.

    (z_{1-α} + z_{(1+power)/2})² · variance / margin² (Julious 2004). `variance` is that of one observed
    difference: the discordance of paired arms, 2 p (1 - p) of independent ones with the rate p.
    """
    normal = NormalDist().inv_cdf
    return ceil((normal(1 - alpha) + normal((1 + power) / 2)) ** 2 * variance / margin**2)


def _quantiles(alpha: float, power: float) -> float:
    normal = NormalDist().inv_cdf
    return normal(1 - alpha / 2) + normal(power)


def _binomial(k: np.ndarray, n: int, p: float, log_factorial: Array) -> Array:
    """P(Bin(n, p) = k)."""
    if p in (0.0, 1.0):
        return (k == n * p).astype(float)
    logs = log_factorial[n] - log_factorial[k] - log_factorial[n - k] + k * np.log(p) + (n - k) * np.log1p(-p)
    return np.exp(logs)
