"""Skills that LIBERO does not ask for, in whole episodes at 5 Hz."""

from dataclasses import replace

import numpy as np
import pytest

from vla_bench import catalog
from vla_bench.policy.cards import load_policy
from vla_bench.run.rollout import Rollout, play
from vla_bench.sim.simulation import MujocoSimulation
from vla_bench.types import Episode, Predicate

STILL = ["lift_the_carrot", "take_the_mushroom_out_of_the_pot", "flip_the_pot_upright"]
MOVING = ["lift_the_red_block_from_the_conveyor", "lift_the_mushroom_from_the_turntable"]
# A skill each: near, slim things set upright, drawers; at two rates poured, knocked over, covered.
OTHERS = [
    "google/move_apple_near_green_can", "google/place_coke_can_upright", "google/open_middle_drawer",
    "franka/pour_the_corn_into_the_pot", "franka/knock_over_the_red_bottle", "franka/cover_the_mushroom",
    "franka_15hz/pour_the_corn_into_the_pot", "franka_15hz/knock_over_the_red_bottle",
    "franka_15hz/cover_the_mushroom",
]  # fmt: skip
SEEDS = range(2)


@pytest.mark.parametrize("task_id", [*(f"bridge_base/{stem}" for stem in STILL + MOVING), *OTHERS])
def test_reaches_the_goal_within_the_horizon(task_id):
    task = catalog.task(task_id)
    simulation, policy = MujocoSimulation(task), load_policy("expert")
    played = [
        play(Rollout(simulation, policy), Episode(task.id, seed=seed), "blocking", seed) for seed in SEEDS
    ]
    assert [row["status"] for row in played] == ["success"] * len(SEEDS)


def snapshots(literal, steps):
    """An episode of lift_the_carrot, but with `literal` as the goal that the expert sees."""
    task = catalog.task("bridge_base/lift_the_carrot")
    simulation, policy = MujocoSimulation(task), load_policy("expert")
    simulation.reset(Episode(task.id, seed=0))
    policy.reset(task.instruction, seed=0)
    for _ in range(steps):
        observation = simulation.observe(privileged=True)
        assert observation.state is not None
        yield simulation, observation.state
        state = replace(observation.state, goal=(literal,))
        simulation.tick(policy.act([replace(observation, state=state)]).actions[0])
        for _ in range(task.ticks_per_step - 1):
            simulation.tick(None)


def test_what_is_lifted_stays_up():
    up = [state.satisfied[0] for _, state in snapshots(Predicate("lifted", ("carrot_1",)), 60)]
    first = int(np.argmax(up))
    assert up[first]
    assert len(up) - first > 20
    assert all(up[first:])


def test_what_is_held_stays_where_it_was():
    seen = list(snapshots(Predicate("held", ("carrot_1",)), 40))
    (simulation, last), places = seen[-1], [state.entities["carrot_1"].pos for _, state in seen]
    assert simulation.stages == ("grasped",)
    assert 0.005 < last.gripper_qpos[0] < 0.035
    assert np.linalg.norm(places[-1] - places[0]) < 0.02
