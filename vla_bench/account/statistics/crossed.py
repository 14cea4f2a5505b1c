"""Crossed weights × timing: what a precision costs by its actions, by its delay, and by both together.

An arm is (precision of the weights, precision whose latency is played); all arms ran the same episodes. With
the rate R(weights, latency) and the reference r, for a precision p:

    weights      R(p, r) - R(r, r)
    timing       R(r, p) - R(r, r)
    interaction  R(p, p) - R(p, r) - R(r, p) + R(r, r)
    total        R(p, p) - R(r, r), their sum

Each is the mean over episodes of a sum of outcomes, so that one bootstrap and one test do for all.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vla_bench.account.statistics.multiplicity import holm
from vla_bench.account.statistics.resampling import mean_estimate, per_episode
from vla_bench.account.statistics.signs import sign_flip
from vla_bench.account.statistics.values import Estimate

Kind = Literal["weights", "timing", "interaction", "total"]
CrossedArm = tuple[str, str]  # precision of the weights, precision whose latency is played


@dataclass(frozen=True, slots=True)
class CrossedEffect:
    """One effect of a precision relative to the reference.

    Attributes:
        estimate: Of the difference of rates (or of differences), with interval.
        p_value: Two-sided, against no effect; `test` says which test.
        p_holm: Adjusted for all effects that were returned together.
        n: Episodes.
    """

    precision: str
    kind: Kind
    estimate: Estimate
    p_value: float
    p_holm: float
    test: str
    n: int


def contrasts(precision: str, reference: str) -> dict[Kind, dict[CrossedArm, int]]:
    """Each effect as a sum of arms: arm → its sign."""
    both, weights, timing, none = (
        (precision, precision),
        (precision, reference),
        (reference, precision),
        (reference, reference),
    )
    return {
        "weights": {weights: 1, none: -1},
        "timing": {timing: 1, none: -1},
        "interaction": {both: 1, weights: -1, timing: -1, none: 1},
        "total": {both: 1, none: -1},
    }


def crossed_effects(
    outcomes: Mapping[CrossedArm, Sequence[float]],
    tasks: Sequence[Hashable],
    reference: str,
    confidence: float,
    rng: np.random.Generator,
    *,
    episodes: Sequence[Hashable] | None = None,
) -> list[CrossedEffect]:
    """Effects of every precision but the reference, in the order of the arms; [] without episodes.

    Effects whose arms were not all run are left out. Intervals: bootstrap of seeds within tasks
    (`mean_estimate`). Tests: exact sign flips of the per-episode numbers, which is exact McNemar for weights,
    timing and total of binary outcomes; for the interaction it is exact if its per-episode numbers are
    symmetric about 0 under the null, and asymptotically right otherwise. Holm over everything returned.

    Args:
        outcomes: Arm → successes or scores in [0, 1], the same episodes in the same order for every arm.
        tasks: Task of each episode.
        reference: Precision that the others are compared with.
        confidence: Of the intervals.
        rng: Draws the bootstrap, and the sign flips where they are too many to count.
        episodes: Equal values are repeated draws of one episode: their mean is one observation.

    Raises:
        ValueError: The reference's own arm is missing, or the arms have different lengths.
    """
    if (reference, reference) not in outcomes:
        raise ValueError(f"no arm ({reference}, {reference}): nothing to compare {sorted(outcomes)} with")
    columns = _columns(outcomes, reference)
    _check_lengths(outcomes, tasks)
    if len(tasks) == 0 or not columns:
        return []
    table = np.column_stack(
        [
            sum(sign * np.asarray(outcomes[arm], dtype=float) for arm, sign in signs.items())
            for *_, signs in columns
        ]
    )
    values, of_tasks = per_episode(table, tasks, episodes)
    estimates = mean_estimate(values, of_tasks, confidence, rng)
    tests = [sign_flip(column, rng) for column in values.T]
    adjusted = holm([test.p_value for test in tests])
    return [
        CrossedEffect(precision, kind, estimate, test.p_value, p_holm, test.method, len(values))
        for (precision, kind, _), estimate, test, p_holm in zip(
            columns, estimates, tests, adjusted, strict=True
        )
    ]


def _columns(
    outcomes: Mapping[CrossedArm, Sequence[float]], reference: str
) -> list[tuple[str, Kind, dict[CrossedArm, int]]]:
    precisions = dict.fromkeys(precision for arm in outcomes for precision in arm)
    return [
        (precision, kind, signs)
        for precision in precisions
        if precision != reference
        for kind, signs in contrasts(precision, reference).items()
        if signs.keys() <= outcomes.keys()
    ]


def _check_lengths(outcomes: Mapping[CrossedArm, Sequence[float]], tasks: Sequence[Hashable]) -> None:
    lengths = {arm: len(values) for arm, values in outcomes.items()}
    if set(lengths.values()) != {len(tasks)}:
        raise ValueError(f"{len(tasks)} episodes have a task, the arms have {lengths}: these are no pairs")
