"""Skills that LIBERO does not ask for, in whole episodes at 5 Hz."""

import numpy as np
import pytest

from vla_bench import catalog
from vla_bench.policy.cards import load_policy
from vla_bench.run.rollout import Rollout, play
from vla_bench.sim.simulation import MujocoSimulation
from vla_bench.types import Episode

STILL = ["lift_the_carrot", "take_the_mushroom_out_of_the_pot", "flip_the_pot_upright"]
MOVING = ["lift_the_red_block_from_the_conveyor", "lift_the_mushroom_from_the_turntable"]
SEEDS = range(2)


@pytest.mark.parametrize("stem", STILL + MOVING)
def test_reaches_the_goal_within_the_horizon(stem):
    task = catalog.task(f"bridge_base/{stem}")
    rollout = Rollout(MujocoSimulation(task), load_policy("expert"))
    played = [play(rollout, Episode(task.id, seed=seed), "blocking", seed) for seed in SEEDS]
    assert [row["status"] for row in played] == ["success"] * len(SEEDS)


def test_what_is_lifted_stays_up():
    task = catalog.task("bridge_base/lift_the_carrot")
    simulation, policy = MujocoSimulation(task), load_policy("expert")
    simulation.reset(Episode(task.id, seed=0))
    policy.reset(task.instruction, seed=0)
    up = []
    for _ in range(task.budget.steps or 0):
        observation = simulation.observe(privileged=True)
        assert observation.state is not None
        up.append(observation.state.satisfied[0])
        simulation.tick(policy.act([observation]).actions[0])
        for _ in range(task.ticks_per_step - 1):
            simulation.tick(None)
    first = int(np.argmax(up))
    assert up[first]
    assert len(up) - first > 20
    assert all(up[first:])
