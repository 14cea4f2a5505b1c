"""Known amounts, planted in the expert: what tests of comparisons take for the truth."""

import numpy as np
import pytest
from support.worlds import BRIDGE, simulation

from vla_bench import catalog, seeding
from vla_bench.errors import DataError
from vla_bench.policy.cards import load_policy, read_card
from vla_bench.policy.scripted.degraded import Amounts, DegradedExpert, amount
from vla_bench.run.rollout import Rollout, play
from vla_bench.types import Episode


def degraded(precision="fp32", **options):
    options = {"eagerness": 0.5, "period_s": 0.2, **options}
    card = read_card("expert_degraded").model_copy(update={"options": options})
    return DegradedExpert(card, precision)


def failing_number(below, above=0.0):
    """A seed whose episode has a number in [above, below)."""
    numbers = ((seed, seeding.generator("policy", "degraded", seed).uniform()) for seed in range(10_000))
    return next(seed for seed, number in numbers if above <= number < below)


def played(policy, seed, pacing="blocking", delay_ms=0):
    world = simulation(BRIDGE)
    run = Rollout(world, policy, delays=lambda call, spent: delay_ms * 1_000_000)
    return play(run, Episode(BRIDGE, seed=0), pacing, seed)["status"]


def test_the_share_of_episodes_that_fail_is_the_chance():
    numbers = [seeding.generator("policy", "degraded", seed).uniform() for seed in range(4000)]
    assert np.mean(np.array(numbers) < 0.2) == pytest.approx(0.2, abs=0.02)


def test_an_episode_fails_if_its_number_is_below_the_chance():
    assert played(load_policy("expert_degraded:0.2"), failing_number(0.2)) == "failure"
    assert played(load_policy("expert_degraded:0.2"), failing_number(0.3, 0.2)) == "success"
    assert played(load_policy("expert_degraded:0"), failing_number(0.01)) == "success"


def test_a_chance_is_planted_at_the_precisions_that_are_named():
    name, seed = "expert_degraded:bnb_int8=0.3+bnb_fp4=0.1", failing_number(0.3, 0.1)
    said = {precision: played(load_policy(name, precision), seed) for precision in ("bf16", "bnb_fp4")}
    assert said == {"bf16": "success", "bnb_fp4": "success"}
    assert played(load_policy(name, "bnb_int8"), seed) == "failure"


def test_the_other_chance_holds_where_the_world_does_not_wait():
    seed = failing_number(0.5, 0.2)
    policy = degraded(failing=0.2, failing_slowly={"": 0.5}, slow_ms=220)
    assert played(policy, seed, "blocking", 300) == "success"
    assert played(policy, seed, "realtime", 100) == "success"
    assert played(policy, seed, "realtime", 240) == "failure"
    assert played(policy, failing_number(0.9, 0.5), "realtime", 240) == "success"


def test_a_late_expert_acts_on_what_was_to_be_seen_before():
    task, world = catalog.task(BRIDGE), simulation(BRIDGE)
    late, prompt = load_policy("expert_late:400"), load_policy("expert_steady")
    for policy in (late, prompt):
        policy.reset(task.instruction, 0)
    world.reset(Episode(BRIDGE, seed=0))
    said, due = [], []
    for _ in range(6):
        seen = [world.observe(privileged=True)]
        said.append(late.act(seen).actions)
        due.append(prompt.act(seen).actions)
        for tick in range(task.ticks_per_step):
            world.tick(due[-1][0] if tick == 0 else None)
    assert all(not action[0, :6].any() for action in said[:2]), "it has seen nothing yet"
    np.testing.assert_array_equal(said[2:], due[:4])


def test_a_late_expert_that_is_not_late_is_the_steady_one():
    assert amount(Amounts(late_ms="bnb_int8=400").late_ms, "bf16") == 0
    world, seen = simulation(BRIDGE), []
    for name, precision in (("expert_steady", "fp32"), ("expert_late:bnb_int8=400", "bf16")):
        world.reset(Episode(BRIDGE, seed=3))
        policy = load_policy(name, precision)
        policy.reset("", 0)
        seen.append(policy.act([world.observe(privileged=True)]).actions)
    np.testing.assert_array_equal(*seen)


@pytest.mark.parametrize("argument", ["1.2", "-0.1", "much", "bnb_int8=", "nan"])
def test_a_chance_that_is_none_is_refused(argument):
    with pytest.raises(DataError, match=r"options\.failing"):
        load_policy(f"expert_degraded:{argument}")


def test_an_amount_with_another_name_is_refused():
    with pytest.raises(DataError, match=r"unknown key 'options.failing_slow'; did you mean 'failing_slowly'"):
        degraded(failing_slow=0.2)


# ── the steady expert ──────────────────────────────────────────────────────────────────────────────────


def test_small_steps_bear_a_delay_that_whole_steps_do_not():
    said = {name: played(load_policy(name), 0, "realtime", 833) for name in ("expert", "expert_steady")}
    assert said == {"expert": "failure", "expert_steady": "success"}


def test_a_degraded_expert_has_the_manner_of_its_card():
    assert played(degraded(failing=0.2), failing_number(0.9, 0.5), "realtime", 833) == "success"


def test_small_steps_keep_up_with_a_target_but_not_from_memory():
    conveyor = "bridge_base/lift_the_red_block_from_the_conveyor"
    world, policy = simulation(conveyor), load_policy("expert_steady")

    def status(delay_ms):
        run = Rollout(world, policy, delays=lambda call, spent: delay_ms * 1_000_000)
        return play(run, Episode(conveyor, seed=0), "realtime", 0)["status"]

    assert (status(0), status(833)) == ("success", "failure")
