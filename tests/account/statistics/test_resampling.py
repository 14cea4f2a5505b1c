import numpy as np
import pytest
from support.simulated import crossed_rates, outcomes

from vla_bench import seeding
from vla_bench.account.statistics import mean_estimate, paired_estimate, paired_scores, sign_flip

TASKS = [f"t{i}" for i in range(10) for _ in range(20)]


def rng(*key):
    return seeding.generator("statistics", "test resampling", *key)


def two_arms(key="arms", tasks=10, seeds=20):
    drawn = outcomes(np.tile([0.8, 0.7], (tasks, 1)), seeds, 0.5, rng(key)).reshape(-1, 2)
    return drawn[:, 0], drawn[:, 1]


@pytest.mark.parametrize("over", ["seeds", "tasks"])
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(over):
    first, second = two_arms(tasks=60)
    tasks = [f"t{i}" for i in range(60) for _ in range(20)]
    made = [paired_estimate(first, second, tasks, 0.95, rng(k), over=over) for k in (1, 1, 2)]
    assert made[0] == made[1]
    assert made[0].value == made[2].value
    assert made[0].interval != made[2].interval


def test_the_estimate_is_the_difference_of_the_rates_and_swapping_arms_mirrors_it():
    first, second = two_arms()
    made = paired_estimate(first, second, TASKS, 0.95, rng())
    mirrored = paired_estimate(second, first, TASKS, 0.95, rng())
    assert made.value == pytest.approx(first.mean() - second.mean())
    assert mirrored.value == pytest.approx(-made.value)
    assert (mirrored.interval.low, mirrored.interval.high) == pytest.approx(
        (-made.interval.high, -made.interval.low), abs=0.01
    )


def test_over_seeds_the_interval_is_as_wide_as_the_variance_within_tasks_says():
    # half of the tasks are won always, half are lost always: nothing varies within a task
    certain = np.repeat(np.tile([1.0, -1.0], 5), 20)[:, None]
    [within] = mean_estimate(certain, TASKS, 0.95, rng())
    [between] = mean_estimate(certain, TASKS, 0.95, rng(), over="tasks")
    # what is left is the made-up episode: ±1, smoothed by a half; 97.5 % lie below 1.45
    end = pytest.approx(1.45 / 201, rel=0.02)
    assert (-within.interval.low, within.interval.high) == (end, end)
    assert between.interval.high > 0.7


def test_the_scale_of_small_tasks_is_kept():
    values = np.tile([1.0, -1.0], 200)[:, None]  # two episodes a task: plug-in variance is half of it
    [made] = mean_estimate(values, [i // 2 for i in range(400)], 0.95, rng())
    width = made.interval.high - made.interval.low
    assert width == pytest.approx(2 * 1.96 * np.sqrt(2 / 400), rel=0.05)


def test_one_episode_has_no_interval_and_no_episode_no_estimate():
    one = paired_estimate([1], [0], ["t"], 0.95, rng())
    assert (one.value, one.interval, one.method) == (1.0, None, "one episode: no interval")
    assert paired_estimate([], [], [], 0.95, rng()) is None
    assert paired_scores([], [], [], rng()) is None


def test_tasks_with_one_episode_each_are_one_stratum():
    first, second = two_arms()
    alone = paired_estimate(first, second, list(range(200)), 0.95, rng())
    pooled = paired_estimate(first, second, ["t"] * 200, 0.95, rng())
    assert alone == pooled


@pytest.mark.parametrize("sign", [1, -1, 0])
def test_arms_that_always_differ_alike_have_an_interval_that_holds_the_estimate(sign):
    first, second = [max(sign, 0)] * 50, [max(-sign, 0)] * 50
    made = paired_estimate(first, second, [i // 10 for i in range(50)], 0.95, rng())
    assert made.interval.low <= made.value == sign <= made.interval.high
    assert -1 <= made.interval.low < made.interval.high <= 1


def test_over_tasks_one_task_says_nothing_and_few_use_students_t():
    from scipy.stats import sem, t

    values = rng("few").normal(size=(60, 1))
    [one] = mean_estimate(values, ["t"] * 60, 0.95, rng(), over="tasks")
    assert (one.interval, one.method) == (None, "one task: nothing is known of others")
    [few] = mean_estimate(values, [i // 10 for i in range(60)], 0.95, rng(), over="tasks")
    means = values.reshape(6, 10).mean(axis=1)
    assert few.interval.high == pytest.approx(means.mean() + t.ppf(0.975, 5) * sem(means))
    [alike] = mean_estimate(np.ones((60, 1)), [i // 10 for i in range(60)], 0.95, rng(), over="tasks")
    assert alike.interval is None


def test_repeated_draws_of_an_episode_are_one_observation():
    first, second = two_arms()
    episodes = [str(i) for i in range(200)]
    once = paired_estimate(first, second, TASKS, 0.95, rng(), episodes=episodes)
    thrice = paired_estimate(
        np.tile(first, 3), np.tile(second, 3), TASKS * 3, 0.95, rng(), episodes=episodes * 3
    )
    assert thrice == once == paired_estimate(first, second, TASKS, 0.95, rng())
    tested = [
        paired_scores(np.tile(first, k), np.tile(second, k), TASKS * k, rng(), episodes=episodes * k)
        for k in (1, 3)
    ]
    assert (tested[0].n, tested[0].p_value) == (tested[1].n, tested[1].p_value)


def test_what_does_not_belong_together_is_refused():
    with pytest.raises(ValueError, match=r"shorter|longer"):
        paired_estimate([1, 0], [1], ["t", "t"], 0.95, rng())
    with pytest.raises(ValueError, match="2 rows, 1 tasks"):
        paired_estimate([1, 0], [1, 1], ["t"], 0.95, rng())
    with pytest.raises(ValueError, match="3 episodes"):
        paired_estimate([1, 0], [1, 1], ["t", "t"], 0.95, rng(), episodes=["a", "b", "c"])


def test_sign_flips_of_whole_numbers_are_counted_out_as_by_brute_force():
    for key in range(5):
        values = rng("flips", key).integers(-2, 3, size=10).astype(float)
        signs = np.array(np.meshgrid(*[[-1, 1]] * 10)).reshape(10, -1)
        brute = float((np.abs(values @ signs) >= abs(values.sum())).mean())
        assert sign_flip(values, rng()).p_value == pytest.approx(brute)
        shrunk = sign_flip(values / 7, rng())  # no whole numbers: scipy counts them
        assert shrunk.p_value == pytest.approx(brute, abs=1e-9)
        assert shrunk.method == "exact sign-flip test"


def test_a_sign_flip_of_discordant_pairs_is_exact_mcnemar():
    from vla_bench.account.statistics import paired_difference

    first, second = two_arms()
    found = sign_flip(first.astype(float) - second, rng())
    assert found.p_value == pytest.approx(paired_difference(first, second).p_value)
    assert found.method == "exact McNemar"
    assert sign_flip(np.zeros(5), rng()).p_value == 1.0


def test_many_scores_are_drawn_and_come_near_the_normal_limit():
    from scipy.stats import norm

    values = rng("scores").normal(0.05, 1, size=1500)
    found = sign_flip(values, rng())
    z = values.sum() / np.sqrt((values**2).sum())
    assert found.p_value == pytest.approx(2 * norm.sf(abs(z)), abs=0.015)
    assert found == sign_flip(values, rng())
    assert "draws" in found.method


def test_few_tasks_cannot_be_significant_and_it_is_said():
    made = paired_scores([1.0] * 40, [0.0] * 40, [i // 10 for i in range(40)], rng(), over="tasks")
    assert (made.n, made.p_value) == (4, 0.125)
    assert "4 tasks cannot give p below 0.125" in made.test
    assert paired_scores([0.5] * 8, [0.5] * 8, range(8), rng()).p_wilcoxon == 1.0


def test_simulated_rates_have_the_effects_that_were_asked_for():
    rates = crossed_rates(4000, 0.7, (-0.1, -0.2, 0.05), rng("rates"))
    drawn = outcomes(rates, 5, 0.5, rng("drawn")).mean(axis=(0, 1))
    assert drawn == pytest.approx(rates.mean(axis=0), abs=0.02)
    assert np.all(np.diff(rates[:, [0, 1]]) < 0)
