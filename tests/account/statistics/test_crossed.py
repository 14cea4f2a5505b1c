import numpy as np
import pytest
from support.simulated import crossed_rates, outcomes

from vla_bench import seeding
from vla_bench.account.statistics import crossed_effects, holm, paired_difference

REFERENCE, OWN = "bf16", "int8"
ARMS = ((REFERENCE, REFERENCE), (OWN, REFERENCE), (REFERENCE, OWN), (OWN, OWN))
TASKS = [f"t{i}" for i in range(8) for _ in range(15)]


def rng(*key):
    return seeding.generator("statistics", "test crossed", *key)


def drawn(key=0):
    rates = crossed_rates(8, 0.75, (-0.1, -0.2, -0.05), rng("rates", key))
    return dict(zip(ARMS, outcomes(rates, 15, 0.5, rng("outcomes", key)).reshape(-1, 4).T, strict=True))


def by_kind(arms, **keys):
    made = crossed_effects(arms, TASKS, REFERENCE, 0.95, rng(), **keys)
    return {effect.kind: effect for effect in made}


def test_effects_are_differences_of_rates_and_add_up():
    arms = drawn()
    rate = {arm: own.mean() for arm, own in arms.items()}
    made = by_kind(arms)
    none, weights, timing, both = (rate[arm] for arm in ARMS)
    assert made["weights"].estimate.value == pytest.approx(weights - none)
    assert made["timing"].estimate.value == pytest.approx(timing - none)
    assert made["interaction"].estimate.value == pytest.approx(both - weights - timing + none)
    assert made["total"].estimate.value == pytest.approx(both - none)
    parts = [made[kind].estimate.value for kind in ("weights", "timing", "interaction")]
    assert sum(parts) == pytest.approx(made["total"].estimate.value)


def test_weights_and_timing_are_tested_by_exact_mcnemar_and_holm_is_over_all():
    arms = drawn()
    made = by_kind(arms)
    for kind, arm in (("weights", ARMS[1]), ("timing", ARMS[2]), ("total", ARMS[3])):
        assert made[kind].p_value == pytest.approx(paired_difference(arms[arm], arms[ARMS[0]]).p_value)
        assert made[kind].test == "exact McNemar"
    assert made["interaction"].test in ("exact sign-flip test", "exact McNemar")
    assert [e.p_holm for e in made.values()] == pytest.approx(holm([e.p_value for e in made.values()]))


def test_every_other_precision_has_its_effects_and_what_was_not_run_is_left_out():
    arms = {**drawn(), ("int4", "int4"): drawn(1)[ARMS[3]], ("int4", REFERENCE): drawn(2)[ARMS[1]]}
    made = crossed_effects(arms, TASKS, REFERENCE, 0.95, rng())
    kinds = [(effect.precision, effect.kind) for effect in made]
    assert kinds == [
        (OWN, "weights"), (OWN, "timing"), (OWN, "interaction"), (OWN, "total"),
        ("int4", "weights"), ("int4", "total"),
    ]  # fmt: skip


def test_the_same_seed_gives_the_same_effects_and_another_other_intervals():
    arms = drawn()
    first, again = (crossed_effects(arms, TASKS, REFERENCE, 0.95, rng(1)) for _ in range(2))
    other = crossed_effects(arms, TASKS, REFERENCE, 0.95, rng(2))
    assert first == again
    assert [e.estimate.interval for e in first] != [e.estimate.interval for e in other]
    assert [e.p_value for e in first] == [e.p_value for e in other]  # nothing is drawn for whole numbers


@pytest.mark.parametrize("level", [False, True])
def test_arms_without_successes_or_failures_differ_by_nothing(level):
    for effect in by_kind(dict.fromkeys(ARMS, np.full(len(TASKS), level))).values():
        assert (effect.estimate.value, effect.p_value) == (0.0, 1.0)
        assert effect.estimate.interval.low < 0 < effect.estimate.interval.high < 0.05


def test_one_episode_has_no_interval_and_none_no_effects():
    one = crossed_effects({arm: [1.0] for arm in ARMS}, ["t"], REFERENCE, 0.95, rng())
    assert {effect.estimate.interval for effect in one} == {None}
    assert crossed_effects({arm: [] for arm in ARMS}, [], REFERENCE, 0.95, rng()) == []
    assert crossed_effects({ARMS[0]: [1.0]}, ["t"], REFERENCE, 0.95, rng()) == []


def test_repeated_draws_of_an_episode_are_one_observation():
    arms = drawn()
    episodes = [str(i) for i in range(len(TASKS))]
    twice = {arm: np.tile(own, 2) for arm, own in arms.items()}
    made = crossed_effects(twice, TASKS * 2, REFERENCE, 0.95, rng(), episodes=episodes * 2)
    assert made == crossed_effects(arms, TASKS, REFERENCE, 0.95, rng())


def test_a_missing_reference_and_unequal_arms_are_refused():
    arms = drawn()
    with pytest.raises(ValueError, match=r"no arm \(fp32, fp32\)"):
        crossed_effects(arms, TASKS, "fp32", 0.95, rng())
    with pytest.raises(ValueError, match="these are no pairs"):
        crossed_effects({**arms, ARMS[1]: [1.0]}, TASKS, REFERENCE, 0.95, rng())
