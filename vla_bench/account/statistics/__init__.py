"""Statistics: pure functions of counts and arrays, one module a question.

Whatever is drawn is drawn from a `numpy.random.Generator` argument (made by `seeding.generator("statistics",
…)`): the same generator gives the same bytes. Intervals are None where nothing can be said.

rates         wilson | exact | jeffreys(successes, n, confidence) → Interval | None; error_bounds;
              posterior_density(successes, n, rates); probability_better((k, n), (k, n))
paired        paired_difference(first, second) → PairedDifference | None: exact McNemar;
              paired_estimate(first, second, tasks, confidence, rng, over="seeds" | "tasks", episodes=None)
              → Estimate | None: difference with interval
resampling    mean_estimate(values (n, k), tasks, confidence, rng, over=) → [Estimate]; per_episode
signs         sign_flip(values, rng) → SignFlip: exact sign-flip test of per-episode (or per-task) numbers
multiplicity  holm(p) for claims; benjamini_hochberg(p) for exploration; letters(names, p of pairs, alpha)
crossed       crossed_effects(outcomes by (weights, latency), tasks, reference, confidence, rng)
              → [CrossedEffect]: weights, timing, interaction, total
"""

from vla_bench.account.statistics.crossed import CrossedArm, CrossedEffect, contrasts, crossed_effects
from vla_bench.account.statistics.multiplicity import benjamini_hochberg, holm, letters
from vla_bench.account.statistics.paired import PairedDifference, paired_difference, paired_estimate
from vla_bench.account.statistics.rates import (
    RATE_INTERVALS,
    RateMethod,
    error_bounds,
    exact,
    jeffreys,
    posterior_density,
    probability_better,
    wilson,
)
from vla_bench.account.statistics.resampling import Over, mean_estimate, per_episode
from vla_bench.account.statistics.signs import SignFlip, sign_flip
from vla_bench.account.statistics.values import Estimate, Interval

__all__ = [
    "RATE_INTERVALS",
    "CrossedArm",
    "CrossedEffect",
    "Estimate",
    "Interval",
    "Over",
    "PairedDifference",
    "RateMethod",
    "SignFlip",
    "benjamini_hochberg",
    "contrasts",
    "crossed_effects",
    "error_bounds",
    "exact",
    "holm",
    "jeffreys",
    "letters",
    "mean_estimate",
    "paired_difference",
    "paired_estimate",
    "per_episode",
    "posterior_density",
    "probability_better",
    "sign_flip",
    "wilson",
]
