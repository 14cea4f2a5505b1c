import numpy as np
import pytest
from scipy.stats import t

from vla_bench import seeding
from vla_bench.account.statistics import NoModelError, gee_effects

TASKS = np.repeat(np.arange(12), 40)
PRECISION = np.tile(["bf16", "int4"], 240)
AXIS = np.tile(np.repeat(["visual", "motion"], 2), 120)


def drawn(rate):
    return seeding.generator("statistics", "test effects").random(TASKS.size) < rate


RATE = 0.7 - 0.2 * (PRECISION == "int4") - 0.1 * (AXIS == "motion")


def test_effects_of_a_balanced_design_are_differences_of_rates():
    y = drawn(RATE)
    made = gee_effects(
        y, TASKS, {"precision": PRECISION, "axis": AXIS}, 0.95, interactions=[("precision", "axis")]
    )
    assert [effect.name for effect in made] == [
        "precision=int4",
        "axis=motion",
        "precision=int4 × axis=motion",
    ]

    quantised, motion = PRECISION == "int4", AXIS == "motion"
    expected = [
        y[quantised].mean() - y[~quantised].mean(),
        y[motion].mean() - y[~motion].mean(),
        (y[quantised & motion].mean() - y[quantised & ~motion].mean())
        - (y[~quantised & motion].mean() - y[~quantised & ~motion].mean()),
    ]
    values = [effect.estimate.value for effect in made]
    assert values == pytest.approx(expected, abs=1e-6)  # the model is saturated
    for effect in made:
        assert effect.estimate.interval.low < effect.estimate.value < effect.estimate.interval.high
        decided = not effect.estimate.interval.low < 0 < effect.estimate.interval.high
        assert decided == (effect.p_value < 0.05)
    assert made[0].p_value < 0.01


def test_one_factor_is_a_paired_t_test_of_tasks_with_mancl_and_derouens_correction():
    y = drawn(RATE)
    [made] = gee_effects(y, TASKS, {"precision": PRECISION}, 0.95)
    by_task = y.reshape(12, 20, 2).mean(axis=1)  # precisions alternate
    of_tasks = by_task[:, 1] - by_task[:, 0]
    half = made.estimate.interval.high - made.estimate.value
    deviations = of_tasks - of_tasks.mean()
    naive = np.sqrt((deviations**2).sum()) / 12
    assert made.estimate.value == pytest.approx(of_tasks.mean(), abs=1e-6)
    # each residual is divided by 1 - leverage, 1 - 1/12: the jackknife
    assert half == pytest.approx(t.ppf(0.975, 10) * naive / (1 - 1 / 12), rel=0.02)
    assert "Mancl and DeRouen" in made.estimate.method


def test_the_bias_reduced_covariance_is_that_of_statsmodels():
    from statsmodels.genmod.cov_struct import Exchangeable
    from statsmodels.genmod.families import Binomial
    from statsmodels.genmod.generalized_estimating_equations import GEE

    draw = seeding.generator("statistics", "covariance")
    tasks = np.repeat(np.arange(7), (5, 9, 20, 31, 8, 12, 15))
    late, y = draw.random(tasks.size) < 0.5, draw.random(tasks.size) < 0.6
    late[0] = False  # the level to compare with
    x = np.column_stack([np.ones(tasks.size), late])
    model = GEE(y.astype(float), x, groups=tasks, family=Binomial(), cov_struct=Exchangeable())
    fitted = model.fit(cov_type="bias_reduced")
    rates = 1 / (1 + np.exp(-np.array([[1.0, 1.0], [1.0, 0.0]]) @ fitted.params))
    slopes = rates * (1 - rates) * np.array([1, -1])
    gradient = slopes @ np.array([[1.0, 1.0], [1.0, 0.0]])
    [made] = gee_effects(y, tasks, {"timing": np.where(late, "late", "at once")}, 0.95)
    half = made.estimate.interval.high - made.estimate.value
    assert made.estimate.value == pytest.approx(rates[0] - rates[1])
    assert half == pytest.approx(
        t.ppf(0.975, 5) * np.sqrt(gradient @ fitted.cov_params() @ gradient), rel=1e-6
    )


def test_the_order_of_episodes_does_not_matter():
    y, order = drawn(RATE), seeding.generator("statistics", "order").permutation(TASKS.size)
    [first] = gee_effects(y, TASKS, {"precision": PRECISION}, 0.95)
    shuffled = {"precision": PRECISION[order]}
    flipped = PRECISION[order][0] != "bf16"
    [second] = gee_effects(y[order], TASKS[order], shuffled, 0.95)
    sign = -1 if flipped else 1
    assert second.estimate.value == pytest.approx(sign * first.estimate.value)
    assert second.p_value == pytest.approx(first.p_value)


def test_levels_of_few_tasks_are_flagged():
    few = TASKS < 4
    [made] = gee_effects(drawn(RATE)[few], TASKS[few], {"precision": PRECISION[few]}, 0.95)
    assert made.estimate.warning.startswith("fewer than 5 tasks (4) have precision=int4")
    assert gee_effects(drawn(RATE), TASKS, {"precision": PRECISION}, 0.95)[0].estimate.warning == ""


def test_what_cannot_be_fitted_is_refused_by_name():
    y = drawn(RATE)
    with pytest.raises(NoModelError, match="precision=int4 has no successes"):
        gee_effects(y & (PRECISION == "bf16"), TASKS, {"precision": PRECISION}, 0.95)
    certain, factors = (
        y | ((PRECISION == "int4") & (AXIS == "motion")),
        {"precision": PRECISION, "axis": AXIS},
    )
    with pytest.raises(NoModelError, match="precision=int4 with axis=motion has no failures"):
        gee_effects(certain, TASKS, factors, 0.95, interactions=[("precision", "axis")])
    with pytest.raises(NoModelError, match="2 tasks for 2 coefficients"):
        gee_effects(y[:80], TASKS[:80], {"precision": PRECISION[:80]}, 0.95)
    with pytest.raises(NoModelError, match="always go together"):
        gee_effects(y, TASKS, {"precision": PRECISION, "weights": PRECISION}, 0.95)
    with pytest.raises(NoModelError, match="0 tasks"):
        gee_effects([], [], {"precision": []}, 0.95)
    with pytest.raises(ValueError, match="480 outcomes, 80 tasks"):
        gee_effects(y, TASKS[:80], {"precision": PRECISION}, 0.95)
