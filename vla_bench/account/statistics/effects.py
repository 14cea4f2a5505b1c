"""Effects of factors and of arms on success, with their interactions: a GEE whose groups are tasks.

A logistic model of all episodes (Liang and Zeger 1986), exchangeable within a task. Its coefficients are odds
ratios; what is returned are risk differences: the mean predicted rate of all episodes at one level minus that
at another (standardisation; Localio, Margolis and Berlin 2007), errors by the delta method.

Tasks are few. The covariance is the bias-reduced one of Mancl and DeRouen (2001), and the reference is
Student's t with (tasks - coefficients) degrees of freedom (Li and Redden 2015).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from vla_bench.account.statistics.values import Estimate, Interval
from vla_bench.errors import VlaBenchError
from vla_bench.types import Array

# A level that fewer tasks have than this, with unequal numbers of episodes, brought false findings above the
# nominal share by more than a point (docs/statistics.md).
TASKS_OF_A_LEVEL = 5


class NoModelError(VlaBenchError):
    """Records to which this model cannot be fitted, with the reason.

    Rates and paired differences have no such limits.
    """


@dataclass(frozen=True, slots=True)
class Effect:
    """One effect on the rate of success.

    Attributes:
        name: `factor=level`, or two of them joined by ` × ` for an interaction.
        estimate: Risk difference to the factors' first levels; of an interaction, the difference of risk
            differences. It warns where the type-I error may exceed the nominal one.
        p_value: Two-sided, Student's t.
    """

    name: str
    estimate: Estimate
    p_value: float


@dataclass(frozen=True, slots=True)
class _Design:
    """Dummy-coded factors and their products: columns of 0 and 1 after the intercept."""

    levels: Mapping[str, Sequence[str]]
    interactions: Sequence[tuple[str, str]]

    def matrix(self, rows: Mapping[str, Sequence[str]], n: int) -> Array:
        """(n, columns) design of `rows`, factor → level of each row."""
        dummies = {
            name: [np.array([value == level for value in rows[name]], dtype=float) for level in own[1:]]
            for name, own in self.levels.items()
        }
        columns = [np.ones(n), *(column for own in dummies.values() for column in own)]
        for first, second in self.interactions:
            columns += [a * b for a, b in product(dummies[first], dummies[second])]
        return np.column_stack(columns)


def gee_effects(
    successes: Sequence[bool],
    tasks: Sequence[Hashable],
    factors: Mapping[str, Sequence[str]],
    confidence: float,
    *,
    interactions: Sequence[tuple[str, str]] = (),
) -> list[Effect]:
    """Effects of every level against the first level of its factor, then of every interaction.

    Args:
        successes: Of every episode.
        tasks: The task of every episode: outcomes of different tasks are taken for independent.
        factors: Name → the level of every episode (an arm's precision, a variation's level, an axis).
        confidence: Of the intervals.
        interactions: Pairs of factors.

    Raises:
        NoModelError: Too few tasks; a level or a combination without successes or without failures, where
            odds are infinite; levels that cannot be told apart; or no
            positive variance.
        ValueError: The lengths differ.
    """
    n = len(successes)
    if any(len(values) != n for values in (tasks, *factors.values())):
        raise ValueError(f"{n} outcomes, {len(tasks)} tasks, { ({f: len(v) for f, v in factors.items()}) }")
    design = _Design({name: list(dict.fromkeys(own)) for name, own in factors.items()}, interactions)
    y, x = np.asarray(successes, dtype=float), design.matrix(factors, n)
    groups = {task: number for number, task in enumerate(dict.fromkeys(tasks))}
    _check(y, x, len(groups), factors, interactions)
    coefficients, covariance = _fit(y, x, np.array([groups[task] for task in tasks]))
    kinds = Counter(zip(*factors.values(), strict=True))  # few: episodes of equal levels have equal rates
    columns = dict(zip(factors, zip(*kinds, strict=True), strict=True))
    weights = np.array(list(kinds.values())) / n

    def mean_rate(at: Mapping[str, str]) -> tuple[float, Array]:
        """Mean predicted rate with some factors set for all episodes, and its gradient."""
        set_to = {name: [level] * len(kinds) for name, level in at.items()}
        rows = design.matrix({**columns, **set_to}, len(kinds))
        rate = 1 / (1 + np.exp(-rows @ coefficients))
        return float(weights @ rate), (weights * rate * (1 - rate)) @ rows

    found = []
    for name, terms in _contrasts(design):
        rates = [(sign, *mean_rate(at)) for sign, at in terms]
        value = sum(sign * rate for sign, rate, _ in rates)
        gradient = np.sum([sign * slope for sign, _, slope in rates], axis=0)
        variance = gradient @ covariance @ gradient
        warning = _warning(tasks, factors, [at for _, at in terms])
        estimate, p_value = _judged(value, variance, len(groups), x.shape[1], confidence, warning)
        found.append(Effect(name, estimate, p_value))
    return found


def _contrasts(design: _Design) -> list[tuple[str, list[tuple[int, dict[str, str]]]]]:
    """Every effect as signed sum of mean rates with factors set."""
    found: list[tuple[str, list[tuple[int, dict[str, str]]]]] = [
        (f"{name}={level}", [(1, {name: level}), (-1, {name: own[0]})])
        for name, own in design.levels.items()
        for level in own[1:]
    ]
    for first, second in design.interactions:
        base, other = design.levels[first][0], design.levels[second][0]
        for a, b in product(design.levels[first][1:], design.levels[second][1:]):
            terms = [
                (1, {first: a, second: b}), (-1, {first: a, second: other}),
                (-1, {first: base, second: b}), (1, {first: base, second: other}),
            ]  # fmt: skip
            found.append((f"{first}={a} × {second}={b}", terms))
    return found


def _fit(y: Array, x: Array, groups: np.ndarray) -> tuple[Array, Array]:
    """Coefficients and their bias-reduced covariance."""
    import warnings

    from statsmodels.genmod.cov_struct import Exchangeable
    from statsmodels.genmod.families import Binomial
    from statsmodels.genmod.generalized_estimating_equations import GEE

    order = np.argsort(groups, kind="stable")
    model = GEE(y[order], x[order], groups=groups[order], family=Binomial(), cov_struct=Exchangeable())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it did not converge is raised below
        fitted: Any = model.fit(cov_type="naive")
    coefficients, naive = np.asarray(fitted.params), np.asarray(fitted.cov_params())
    if not (fitted.converged and np.all(np.isfinite(coefficients)) and np.all(np.isfinite(naive))):
        raise NoModelError("the model's estimating equations have no finite solution for these outcomes")
    return coefficients, _bias_reduced(model, naive)


def _bias_reduced(model: Any, naive: Array) -> Array:
    """Mancl and DeRouen's covariance N (Σ s sᵀ) N of a fitted model, N its model-based covariance.

    A task's score is s = Dᵀ V⁻¹ (1 - H)⁻¹ r, H = D N Dᵀ V⁻¹. statsmodels inverts 1 - H, whose side is the
    number of a task's episodes; with G = Dᵀ V⁻¹ D the same is (1 + G (N⁻¹ - G)⁻¹) Dᵀ V⁻¹ r (Woodbury), whose
    side is the number of coefficients.
    """
    scale, total = model.estimate_scale(), np.zeros_like(naive)
    for i, (rates, linear) in enumerate(model.cached_means):
        slopes = model.mean_deriv(model.exog_li[i], linear)
        deviations = np.sqrt(model.family.variance(rates))
        weighed = model.cov_struct.covariance_matrix_solve(rates, i, deviations, (slopes,))[0].T / scale
        score, own = weighed @ (model.endog_li[i] - rates), weighed @ slopes
        try:
            score = score + own @ np.linalg.solve(np.linalg.inv(naive) - own, score)
        except np.linalg.LinAlgError:
            raise NoModelError(
                "a coefficient rests on a single task: nothing is known of its variance"
            ) from None
        total += np.outer(score, score)
    return naive @ total @ naive


def _judged(
    value: float, variance: float, tasks: int, coefficients: int, confidence: float, warning: str
) -> tuple[Estimate, float]:
    """An effect with its interval and p-value, by Student's t."""
    from scipy.stats import t

    if not variance > 0:
        raise NoModelError(
            f"{tasks} tasks: an effect's bias-reduced variance is {variance:.2g}: nothing can be said"
        )
    freedom, error = tasks - coefficients, float(np.sqrt(variance))
    half = float(t.ppf((1 + confidence) / 2, freedom)) * error
    method = f"GEE over {tasks} tasks, Mancl and DeRouen's covariance, t with {freedom} degrees of freedom"
    estimate = Estimate(float(value), Interval(float(value - half), float(value + half)), method, warning)
    return estimate, float(2 * t.sf(abs(value) / error, freedom))


def _warning(
    tasks: Sequence[Hashable], factors: Mapping[str, Sequence[str]], terms: Sequence[Mapping[str, str]]
) -> str:
    """Name the levels that fewest tasks have, of those that an effect compares, if they are too few."""
    seen: dict[str, int] = {}
    for levels in terms:
        name = " with ".join(f"{factor}={level}" for factor, level in levels.items())
        rows = zip(tasks, *(factors[factor] for factor in levels), strict=True)
        wanted = tuple(levels.values())
        seen[name] = len({task for task, *own in rows if tuple(own) == wanted})
    fewest = min(seen, key=lambda name: seen[name])
    if seen[fewest] >= TASKS_OF_A_LEVEL:
        return ""
    return (
        f"fewer than {TASKS_OF_A_LEVEL} tasks ({seen[fewest]}) have {fewest}: false findings may be more "
        "frequent than said"
    )


def _check(
    y: Array,
    x: Array,
    tasks: int,
    factors: Mapping[str, Sequence[str]],
    interactions: Sequence[tuple[str, str]],
) -> None:
    """Refuse what cannot be fitted, by name."""
    if tasks <= x.shape[1]:
        raise NoModelError(f"{tasks} tasks for {x.shape[1]} coefficients: there must be more tasks")
    cells = [(name,) for name in factors] + list(interactions)
    for names in cells:
        rows = list(zip(*(factors[name] for name in names), strict=True))
        for cell in dict.fromkeys(rows):
            rate = y[[row == cell for row in rows]].mean()
            if rate in (0.0, 1.0):
                where = " with ".join(f"{n}={v}" for n, v in zip(names, cell, strict=True))
                what = "successes" if rate == 0 else "failures"
                raise NoModelError(f"{where} has no {what}: its odds are infinite")
    if np.linalg.matrix_rank(x) < x.shape[1]:
        raise NoModelError(
            f"the levels of {', '.join(factors)} always go together: no way to tell them apart"
        )
