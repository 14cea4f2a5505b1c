"""Whether tests err and intervals cover as often as they say: counted out where possible, else simulated.

`VLA_BENCH_LONG=1` simulates 2,000 sets a setting and prints what came out (pytest -s), as docs/statistics.md
quotes it; otherwise a few sets guard against gross mistakes.
"""

import numpy as np
import pytest
from scipy.stats import binom, multinomial
from support.simulated import LONG, crossed_rates, outcomes

from vla_bench import seeding
from vla_bench.account.statistics import (
    NoModelError,
    against_published,
    contrasts,
    gee_effects,
    log_e_value,
    mean_estimate,
    paired_difference,
    paired_equivalence,
    sign_flip,
    unpaired_difference,
    unpaired_equivalence,
)

SETS = 2000 if LONG else 100
RATES = np.linspace(0.005, 0.995, 199)
ARMS = (("r", "r"), ("p", "r"), ("r", "p"), ("p", "p"))
SIGNS = np.array([[signs.get(arm, 0) for arm in ARMS] for signs in contrasts("p", "r").values()], dtype=float)


def rng(*key):
    return seeding.generator("statistics", "test simulations", *key)


def told(*words):
    if LONG:
        print(*words, flush=True)


def between(share, low, high):
    """Whether a simulated share may have come from a probability in [low, high]."""
    slack = 0 if LONG else 4 * np.sqrt(0.05 * 0.95 / SETS)
    return low - slack <= share <= high + slack


# ── crossed weights × timing ──

# tasks, seeds, rate of the reference, (weights, timing, interaction), how alike arms are on an episode
CROSSED = {
    "10 tasks × 20, 75 %": (10, 20, 0.75, (-0.08, -0.15, -0.05), 0.5),
    "10 tasks × 5, 75 %": (10, 5, 0.75, (-0.08, -0.15, -0.05), 0.5),
    "10 tasks × 50, 85 %": (10, 50, 0.85, (-0.03, -0.1, -0.05), 0.5),
    "40 tasks × 3, 75 %": (40, 3, 0.75, (-0.08, -0.15, -0.05), 0.5),
    "8 tasks × 10, 70 %, no effect": (8, 10, 0.7, (0.0, 0.0, 0.0), 0.5),
    "10 tasks × 20, 75 %, alike": (10, 20, 0.75, (-0.05, -0.1, -0.05), 0.8),
    "10 tasks × 20, 75 %, unlike": (10, 20, 0.75, (-0.08, -0.15, -0.05), 0.0),
    "4 tasks × 50, 60 %, large": (4, 50, 0.6, (-0.1, -0.3, -0.05), 0.5),
    "10 tasks × 50, 95 %": (10, 50, 0.95, (-0.02, -0.05, -0.02), 0.5),
    "10 tasks × 20, 95 %": (10, 20, 0.95, (-0.02, -0.05, -0.02), 0.5),
    "10 tasks × 50, 98 %": (10, 50, 0.98, (-0.01, -0.02, -0.01), 0.5),
    "10 tasks × 20, 98 %": (10, 20, 0.98, (-0.01, -0.02, -0.01), 0.5),
    "10 tasks × 20, 5 %": (10, 20, 0.05, (-0.02, -0.03, 0.02), 0.5),
    "10 tasks × 20, 97 %, no effect": (10, 20, 0.97, (0.0, 0.0, 0.0), 0.5),
    "10 tasks × 10, 99 %": (10, 10, 0.99, (-0.005, -0.01, 0.0), 0.5),
}
# Arms differ on three or four of 100 episodes: intervals covered 91 to 98 % (docs/statistics.md).
SPARSE = {"10 tasks × 10, 99 %"}
SHORT = ("10 tasks × 20, 75 %", "10 tasks × 5, 75 %", "10 tasks × 10, 99 %")


@pytest.mark.parametrize("setting", CROSSED if LONG else SHORT)
def test_intervals_of_crossed_effects_cover_or_warn(setting):
    tasks, seeds, base, effects, shared = CROSSED[setting]
    rates = crossed_rates(tasks, base, effects, rng("rates", setting))
    truth, of_tasks, draw = (
        rates.mean(axis=0) @ SIGNS.T,
        list(np.repeat(np.arange(tasks), seeds)),
        rng(setting),
    )
    covered, warned = np.zeros(4), np.zeros(4)
    for _ in range(SETS):
        values = outcomes(rates, seeds, shared, draw).reshape(-1, 4) @ SIGNS.T
        made = mean_estimate(values, of_tasks, 0.95, draw)
        covered += [e.interval.low <= t <= e.interval.high for e, t in zip(made, truth, strict=True)]
        warned += [bool(e.warning) for e in made]
    shares = dict(zip(contrasts("p", "r"), (100 * covered / SETS).round(2).tolist(), strict=True))
    told(f"coverage, {setting}: {shares} %; true effects {(100 * truth).round(1)}; warned {warned / SETS}")
    for share, often in zip(covered / SETS, warned / SETS, strict=True):
        assert often > 0.5 or between(share, 0.935, 0.965)
    assert bool(np.all(warned > 0.5 * SETS)) == (setting in SPARSE)


@pytest.mark.parametrize(
    ("name", "values", "chances"),
    [
        ("symmetric", (-2, -1, 0, 1, 2), (0.02, 0.15, 0.66, 0.15, 0.02)),
        ("skewed", (-1, 0, 2), (0.2, 0.7, 0.1)),
        ("rare and skewed", (-1, 0, 2), (0.04, 0.94, 0.02)),
    ],
)
def test_the_interactions_sign_flip_test_keeps_its_level(name, values, chances):
    draw = rng("interaction", name)
    p_values = [
        sign_flip(draw.choice(values, 200, p=chances).astype(float), draw).p_value for _ in range(SETS)
    ]
    rejected = np.mean(np.array(p_values) <= 0.05)
    told(f"type-I error of the interaction's test, {name}: {100 * rejected:.2f} %")
    assert between(rejected, 0.0, 0.06)


# ── over tasks ──


@pytest.mark.parametrize("tasks", [5, 10, 20, 40, 60, 90] if LONG else [10])
def test_intervals_over_tasks_cover_the_mean_of_all_tasks(tasks):
    draw, truth = rng("over tasks", tasks), -0.1
    covered = 0
    for _ in range(SETS):
        first, second = draw.beta(3, 1.5, size=tasks), None
        second = first * (1 + truth / (3 / 4.5))  # rates of other tasks each time; E[second - first] = truth
        drawn = outcomes(np.stack([first, second], axis=1), 10, 0.5, draw).reshape(-1, 2)
        values = (drawn[:, 1].astype(float) - drawn[:, 0])[:, None]
        [made] = mean_estimate(values, list(np.repeat(np.arange(tasks), 10)), 0.95, draw, over="tasks")
        covered += made.interval is not None and made.interval.low <= truth <= made.interval.high
    told(f"coverage over {tasks} tasks: {100 * covered / SETS:.2f} %")
    assert between(covered / SETS, 0.93, 0.97)


# ── tests of two arms, counted out ──


@pytest.mark.parametrize("discordant", [1, 5, 6, 17, 60])
def test_exact_mcnemar_rejects_at_most_as_often_as_it_says(discordant):
    chance = binom.pmf(np.arange(discordant + 1), discordant, 0.5)
    wins = [np.arange(discordant) < b for b in range(discordant + 1)]
    p = [paired_difference(won, ~won).p_value for won in wins]
    for alpha in (0.01, 0.05, 0.2):
        assert chance[np.array(p) <= alpha].sum() <= alpha + 1e-12


def unpaired_sizes(n1, n2, rejected, rates=RATES, margin=0.0):
    """Probability of tables where `rejected`, when the first arm's rate is `rates` and the second's less."""
    first = binom.pmf(np.arange(n1 + 1)[:, None], n1, rates)
    second = binom.pmf(np.arange(n2 + 1)[:, None], n2, rates - margin)
    return np.einsum("ip,jp,ij->p", first, second, rejected)


@pytest.mark.parametrize("sizes", [(6, 6), (5, 9), (15, 15)] if LONG else [(6, 6), (5, 9)])
def test_boschloos_test_rejects_at_most_as_often_as_it_says(sizes):
    n1, n2 = sizes
    p = np.array(
        [[unpaired_difference((a, n1), (b, n2), 0.95).p_value for b in range(n2 + 1)] for a in range(n1 + 1)]
    )
    size = unpaired_sizes(n1, n2, p <= 0.05).max()
    told(f"largest type-I error of Boschloo's test, {sizes}: {100 * size:.2f} %")
    assert size <= 0.0505  # scipy looks for the worst rate on a grid


@pytest.mark.skipif(not LONG, reason="40,804 tables; set VLA_BENCH_LONG=1")
def test_the_pooled_score_test_of_large_arms_errs_at_most_a_point_more_often():
    n = 201
    p = np.array(
        [[unpaired_difference((a, n), (b, n), 0.95).p_value for b in range(n + 1)] for a in range(n + 1)]
    )
    size = unpaired_sizes(n, n, p <= 0.05)
    told(f"type-I error of the pooled score test, n {n}: at most {100 * size.max():.2f} %")
    assert size.max() <= 0.06


@pytest.mark.parametrize("n", [20, 50, 200] if LONG else [20])
def test_paired_equivalence_errs_at_most_a_point_more_often_than_it_says(n):
    margin, worst = 0.1, 0.0
    tables = [(b, c) for b in range(n + 1) for c in range(n + 1 - b)]
    rejected = np.array([paired_equivalence(b, c, n, margin).p_no_worse <= 0.05 for b, c in tables])
    counts = np.array([(b, c, n - b - c) for b, c in tables])
    for discordance in (0.1, 0.12, 0.15, 0.2, 0.3, 0.5):
        wins, losses = (discordance - margin) / 2, (discordance + margin) / 2
        chance = multinomial.pmf(counts, n, [wins, losses, 1 - discordance])
        worst = max(worst, chance[rejected].sum())
    told(f"largest type-I error of paired equivalence, n {n}: {100 * worst:.2f} %")
    assert worst <= 0.06


@pytest.mark.parametrize("n", [30, 80] if LONG else [30])
def test_unpaired_equivalence_errs_at_most_a_point_more_often_than_it_says(n):
    margin = 0.1
    rejected = np.array(
        [
            [unpaired_equivalence((a, n), (b, n), margin).p_no_better <= 0.05 for b in range(n + 1)]
            for a in range(n + 1)
        ]
    )
    size = unpaired_sizes(n, n, rejected, rates=np.linspace(margin, 1, 181), margin=margin)
    told(f"type-I error of unpaired equivalence, n {n}: at most {100 * size.max():.2f} %")
    assert size.max() <= 0.06


@pytest.mark.parametrize("published", [0.03, 0.5, 0.847, 0.98])
@pytest.mark.parametrize("n", [50, 500])
def test_verdicts_on_a_published_rate_err_at_most_as_often_as_they_say(published, n):
    words = np.array([against_published(k, n, published).word for k in range(n + 1)])
    chance_at = {
        rate: binom.pmf(np.arange(n + 1), n, rate) for rate in (published, published - 0.05, published + 0.05)
    }
    assert chance_at[published][words == "not reproduced"].sum() <= 0.05 + 1e-12
    for edge in (published - 0.05, published + 0.05):
        if 0 <= edge <= 1:
            assert chance_at[edge][words == "reproduced"].sum() <= 0.05 + 1e-12
    assert set(words) <= {"reproduced", "not reproduced", "inconclusive"}


# ── GEE ──


@pytest.mark.parametrize("tasks", [6, 10, 20, 40] if LONG else [10])
def test_gee_effects_err_about_as_often_as_they_say(tasks):
    draw, seeds = rng("gee", tasks), 12
    of_tasks = np.repeat(np.arange(tasks), 2 * seeds)
    factors = {
        "precision": np.tile(["bf16", "int4"], tasks * seeds),
        "axis": np.repeat(np.where(np.arange(tasks) % 2, "visual", "motion"), 2 * seeds),
    }
    p_values = []
    for _ in range(SETS if LONG else 60):
        rates = crossed_rates(tasks, 0.7, (0.0, 0.0, 0.0), draw)[:, :2]
        drawn = outcomes(rates, seeds, 0.5, draw).reshape(-1)
        made = gee_effects(drawn, of_tasks, factors, 0.95, interactions=[("precision", "axis")])
        p_values.append([effect.p_value for effect in made])
    rejected = np.mean(np.array(p_values) <= 0.05, axis=0)
    shares = (100 * rejected).round(2)
    told(f"type-I error of the GEE, {tasks} tasks (within, between, interaction): {shares} %")
    flagged = bool(made[0].estimate.warning)
    slack = 0.0 if LONG else 4 * np.sqrt(0.05 * 0.95 / 60)
    assert flagged == (tasks < 10)
    assert flagged or np.all(rejected <= 0.06 + slack)


@pytest.mark.parametrize("own", [2, 3, 4, 5] if LONG else [5])
def test_an_axis_against_other_tasks_errs_about_as_often_as_it_says_or_warns(own):
    draw, tasks, seeds = rng("gee of tasks", own), 17, 10
    of_tasks = np.repeat(np.arange(tasks), seeds)
    axis = np.where(of_tasks < tasks - own, "others", "own")
    sets = 1500 if LONG else 60
    p_values = []
    for _ in range(sets):
        drawn = outcomes(crossed_rates(tasks, 0.7, (0.0, 0.0, 0.0), draw)[:, :1], seeds, 0.5, draw)
        try:
            [made] = gee_effects(drawn.reshape(-1), of_tasks, {"axis": axis}, 0.95)
        except NoModelError:  # all of two tasks' 20 episodes succeeded
            continue
        assert bool(made.estimate.warning) == (own < 5)
        p_values.append(made.p_value)
    rejected = np.mean(np.array(p_values) <= 0.05)
    told(f"type-I error of the GEE, {own} of {tasks} tasks: {100 * rejected:.2f} % of {len(p_values)}")
    assert own < 5 or rejected <= 0.06 + (0.0 if LONG else 4 * np.sqrt(0.05 * 0.95 / sets))


# ── stopping when decided ──


@pytest.mark.parametrize("second", [0.9, 0.8, 0.7, 0.5] if LONG else [0.9, 0.7])
def test_looking_after_every_pair_saves_episodes_and_seldom_decides_wrongly(second):
    draw, planned = rng("sequential", second), 500
    ran, decided = [], 0
    for _ in range(SETS):
        drawn = outcomes(np.tile([0.9, second], (10, 1)), planned // 10, 0.5, draw)
        in_rounds = drawn.transpose(1, 0, 2).reshape(-1, 2)
        won = np.cumsum(in_rounds & ~in_rounds[:, ::-1], axis=0)
        over = [i for i, (b, c) in enumerate(won.tolist(), start=1) if log_e_value(b, c) >= np.log(20)]
        decided += bool(over)
        ran.append(min(over, default=planned))
    told(
        f"90 % against {100 * second:g} %, {planned} episodes planned: decided {100 * decided / SETS:.1f} %, "
        f"episodes run: median {np.median(ran):g}, mean {np.mean(ran):.0f}"
    )
    if second == 0.9:
        assert between(decided / SETS, 0.0, 0.05)
    else:
        assert decided > 0.9 * SETS
        assert np.mean(ran) < planned / 2
