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
scores        paired_scores(first, second, tasks, rng, over=, episodes=) → ScoreDifference | None
unpaired      unpaired_difference((k, n), (k, n), confidence) → UnpairedDifference | None: Boschloo, Newcombe
effects       gee_effects(successes, tasks, {factor: levels}, confidence, interactions=) → [Effect]: risk
              differences; raises NoModelError
equivalence   paired_equivalence(first_only, second_only, n, margin, alpha) → Equivalence | None;
              unpaired_equivalence((k, n), (k, n), margin, alpha) → Equivalence | None;
              tango_interval(first_only, second_only, n, confidence)
reproduction  against_published(successes, n, rate, published_n=, margin=, alpha=, incomparable=) → Verdict:
              reproduced | not reproduced | inconclusive | not comparable
power         required_pairs, detectable_paired, mcnemar_power; required_unpaired, detectable_unpaired;
              required_equivalence; FEWEST_EPISODES
sequential    log_e_value(first_only, second_only); anytime_p(highest ln e); share_interval(b, c, confidence)
crossed       crossed_effects(outcomes by (weights, latency), tasks, reference, confidence, rng)
              → [CrossedEffect]: weights, timing, interaction, total
"""

from vla_bench.account.statistics.crossed import CrossedArm, CrossedEffect, contrasts, crossed_effects
from vla_bench.account.statistics.effects import TASKS_OF_A_LEVEL, Effect, NoModelError, gee_effects
from vla_bench.account.statistics.equivalence import (
    Equivalence,
    paired_equivalence,
    tango_interval,
    unpaired_equivalence,
)
from vla_bench.account.statistics.multiplicity import benjamini_hochberg, holm, letters
from vla_bench.account.statistics.paired import PairedDifference, paired_difference, paired_estimate
from vla_bench.account.statistics.power import (
    FEWEST_EPISODES,
    detectable_paired,
    detectable_unpaired,
    mcnemar_power,
    required_equivalence,
    required_pairs,
    required_unpaired,
)
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
from vla_bench.account.statistics.reproduction import Verdict, against_published
from vla_bench.account.statistics.resampling import FEWEST_DIFFERING, Over, mean_estimate, per_episode
from vla_bench.account.statistics.scores import ScoreDifference, paired_scores
from vla_bench.account.statistics.sequential import anytime_p, log_e_value, share_interval
from vla_bench.account.statistics.signs import SignFlip, sign_flip
from vla_bench.account.statistics.unpaired import UnpairedDifference, unpaired_difference
from vla_bench.account.statistics.values import Estimate, Interval

__all__ = [
    "FEWEST_DIFFERING",
    "FEWEST_EPISODES",
    "RATE_INTERVALS",
    "TASKS_OF_A_LEVEL",
    "CrossedArm",
    "CrossedEffect",
    "Effect",
    "Equivalence",
    "Estimate",
    "Interval",
    "NoModelError",
    "Over",
    "PairedDifference",
    "RateMethod",
    "ScoreDifference",
    "SignFlip",
    "UnpairedDifference",
    "Verdict",
    "against_published",
    "anytime_p",
    "benjamini_hochberg",
    "contrasts",
    "crossed_effects",
    "detectable_paired",
    "detectable_unpaired",
    "error_bounds",
    "exact",
    "gee_effects",
    "holm",
    "jeffreys",
    "letters",
    "log_e_value",
    "mcnemar_power",
    "mean_estimate",
    "paired_difference",
    "paired_equivalence",
    "paired_estimate",
    "paired_scores",
    "per_episode",
    "posterior_density",
    "probability_better",
    "required_equivalence",
    "required_pairs",
    "required_unpaired",
    "share_interval",
    "sign_flip",
    "tango_interval",
    "unpaired_difference",
    "unpaired_equivalence",
    "wilson",
]
