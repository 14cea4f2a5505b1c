from dataclasses import replace

import numpy as np
import pytest

from vla_bench import catalog
from vla_bench.errors import ConventionError, MissingDataError
from vla_bench.policy.cards import load_policy
from vla_bench.sim.simulation import MujocoSimulation
from vla_bench.types import Episode

TASKS = ["libero_object/1", "libero_spatial/3", "libero_goal/5", "libero_goal/7", "libero_90/0"]


@pytest.fixture(scope="module")
def simulations():
    made = {}

    def get(name):
        try:
            catalog.libero_root()
        except MissingDataError as error:
            pytest.skip(str(error))
        if name not in made:
            made[name] = MujocoSimulation(catalog.task(name))
        return made[name]

    return get


def run(sim, policy, steps, init_state=0, disturb=None, delay=0):
    """Actions until success or for `steps`, each from the observation `delay` steps earlier."""
    sim.reset(Episode(sim.task.id, init_state=init_state))
    policy.reset(sim.task.instruction, seed=0)
    for _ in range(sim.task.settle_steps):
        sim.tick(np.array(sim.task.settle_action))
    seen, actions = [], []
    while len(actions) < steps and not sim.succeeded:
        seen.append(sim.observe(privileged=True))
        actions.append(policy.act([seen[max(0, len(seen) - 1 - delay)]]).actions[0])
        sim.tick(actions[-1])
        if disturb is not None:
            disturb(sim, len(actions))
    return np.array(actions)


@pytest.mark.parametrize("name", TASKS)
def test_reaches_the_goal_within_the_horizon(simulations, name):
    sim = simulations(name)
    actions = run(sim, load_policy("expert"), sim.task.budget.steps)
    assert sim.succeeded
    assert np.abs(actions).max() <= 1.0


def test_same_history_gives_the_same_actions(simulations):
    sim = simulations(TASKS[0])
    first = run(sim, load_policy("expert"), 60)
    policy = load_policy("expert")
    run(sim, policy, 25, init_state=3)
    np.testing.assert_array_equal(run(sim, policy, 60), first)


def test_a_thing_that_slips_away_is_taken_again(simulations):
    sim = simulations(TASKS[0])

    def pull_away(sim, step):
        if step == 55:
            joint = sim.data.joint("cream_cheese_1_joint0")
            joint.qpos[:3] = [-0.15, 0.05, 0.02]
            joint.qvel[:] = 0.0

    actions = run(sim, load_policy("expert"), sim.task.budget.steps, disturb=pull_away)
    assert len(actions) > 70
    assert sim.succeeded


@pytest.mark.parametrize("delay", [1, 8])
def test_late_observations_only_cost_success(simulations, delay):
    sim = simulations(TASKS[0])
    steps = sim.task.budget.steps if delay == 1 else 120
    actions = run(sim, load_policy("expert"), steps, delay=delay)
    assert np.isfinite(actions).all()
    assert np.abs(actions).max() <= 1.0
    assert delay > 1 or sim.succeeded


def test_needs_the_snapshot(simulations):
    observation = replace(simulations(TASKS[0]).observe(), state=None)
    with pytest.raises(ConventionError, match="privileged"):
        load_policy("expert").act([observation])
