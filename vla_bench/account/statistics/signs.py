"""Whether a mean of per-episode numbers is zero: the sign-flip test, counted out where it can be."""

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
    """Test that `values` (n,) are symmetric about 0: as likely with either sign (Fisher 1935).

    Whole numbers (differences of successes) are counted out exactly, whatever n; of -1, 0 and 1 the test is
    exact McNemar. Others (scores, means of repeated draws) are counted out up to 14 of them and drawn beyond,
    with the observed one among the draws so that the test stays valid (Phipson and Smyth 2010).
    """
    values = np.asarray(values, dtype=float)
    values = values[values != 0]
    if not values.size:
        return SignFlip(1.0, "no two arms differed on any episode")
    if np.all(values == np.round(values)):
        size = np.abs(values).astype(int)
        exact = "exact McNemar" if size.max() == 1 else "exact sign-flip test"
        return SignFlip(_counted(size, int(values.sum())), exact)
    if values.size <= 14:
        signs = np.array(np.meshgrid(*[[-1, 1]] * values.size)).reshape(values.size, -1)
        return SignFlip(float(_as_extreme(values @ signs, values.sum()).mean()), "exact sign-flip test")
    drawn = rng.integers(0, 2, size=(RESAMPLES, values.size), dtype=np.int8) * 2.0 - 1
    extreme = int(_as_extreme(drawn @ values, values.sum()).sum())
    return SignFlip((extreme + 1) / (RESAMPLES + 1), f"sign-flip test, {RESAMPLES:,} draws")


def _counted(sizes: np.ndarray, total: int) -> float:
    """P(|Σ ± sizes| >= |total|) over all signs, by convolution of the sums' distribution."""
    chance = np.ones(1)
    for size in sizes:
        grown = np.zeros(chance.size + 2 * size)
        grown[: chance.size] += chance / 2
        grown[2 * size :] += chance / 2
        chance = grown
    sums = np.arange(chance.size) - int(sizes.sum())
    return float(min(1.0, chance[np.abs(sums) >= abs(total)].sum()))


def _as_extreme(sums: Array, observed: float) -> np.ndarray:
    """Sums at least as far from 0 as the observed one, equal ones counted whatever their rounding."""
    return np.abs(sums) >= abs(observed) * (1 - 1e-12) - 1e-12
