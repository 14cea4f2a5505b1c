"""Whether a mean of paired numbers is zero: the sign-flip test, counted out where it can be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_bench.types import Array

RESAMPLES = 20_000


@dataclass(frozen=True, slots=True)
class SignFlip:
    """A two-sided p-value, and how it was found."""

    p_value: float
    method: str


def sign_flip(values: Array, rng: np.random.Generator) -> SignFlip:
    """Test that `values` (n,) are symmetric about 0: each as likely with either sign (Fisher 1935).

    Whole numbers (sums of successes) are counted out exactly, whatever n; of -1, 0 and 1 this is exact
    McNemar. Others (scores, means of repeated draws) are counted out up to 14 of them and drawn beyond, with
    the observed one among the draws so that the test stays valid (Phipson and Smyth 2010).
    """
    values = np.asarray(values, dtype=float)
    values = values[values != 0]
    if not values.size:
        return SignFlip(1.0, "no difference anywhere")
    if np.all(values == np.round(values)):
        sizes = np.abs(values).astype(int)
        method = "exact McNemar" if sizes.max() == 1 else "exact sign-flip test"
        return SignFlip(_counted(sizes, int(values.sum())), method)
    from scipy.stats import permutation_test

    found = permutation_test(
        (values,), np.sum, permutation_type="samples", n_resamples=RESAMPLES, batch=500, rng=rng
    )
    counted = 2**values.size <= RESAMPLES
    return SignFlip(
        float(found.pvalue), "exact sign-flip test" if counted else f"sign-flip test, {RESAMPLES:,} draws"
    )


def _counted(sizes: np.ndarray, total: int) -> float:
    """P(|Σ ± sizes| >= |total|) over all signs, by convolution of the sum's distribution."""
    chance = np.ones(1)
    for size in sizes:
        grown = np.zeros(chance.size + 2 * size)
        grown[: chance.size] += chance / 2
        grown[2 * size :] += chance / 2
        chance = grown
    sums = np.arange(chance.size) - int(sizes.sum())
    return float(min(1.0, chance[np.abs(sums) >= abs(total)].sum()))
