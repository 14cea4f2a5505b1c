"""Things that move by themselves: where they are, and that things ride along."""

from __future__ import annotations

import numpy as np
import pytest

from vla_bench import catalog
from vla_bench.bddl import Drive
from vla_bench.errors import UnknownNameError
from vla_bench.sim.moving import Course, Mover
from vla_bench.sim.simulation import MujocoSimulation
from vla_bench.types import Episode

CONVEYOR = catalog.task("bridge_base/lift_the_red_block_from_the_conveyor")
TURNTABLE = catalog.task("bridge_base/lift_the_mushroom_from_the_turntable")
SHUTTLE = Drive("rail_slide", 0.1, (-0.2, 0.2))


@pytest.mark.parametrize("start", [-0.2, -0.05, 0.0, 0.13, 0.2])
def test_a_shuttle_keeps_its_speed_and_stays_in_its_range(start):
    course, dt = Course(SHUTTLE, start), 0.01
    times = np.arange(0.0, 20.0, dt)
    pos, vel = np.array([course.at(t) for t in times]).T
    assert pos[0] == pytest.approx(start)
    assert pos.min() >= -0.2
    assert pos.max() <= 0.2
    assert np.allclose(np.abs(vel), 0.1)
    steps = np.diff(pos)
    assert np.abs(steps).max() <= 0.1 * dt + 1e-12
    straight = vel[1:] == vel[:-1]
    assert np.allclose(steps[straight], vel[:-1][straight] * dt)
    assert pos.min() < -0.19
    assert pos.max() > 0.19


def test_a_shuttle_begins_with_its_longer_way():
    assert Course(SHUTTLE, -0.15).at(0.0)[1] > 0.0
    assert Course(SHUTTLE, 0.15).at(0.0)[1] < 0.0


def test_a_drive_without_a_range_goes_round():
    assert Course(Drive("disc_hinge", 0.5), 1.0).at(20.0) == (11.0, 0.5)


def test_an_unknown_joint_is_named_with_the_nearest():
    simulation = MujocoSimulation(CONVEYOR)
    with pytest.raises(UnknownNameError, match=r"here:7.*conveyor_1_slid.*conveyor_1_slide"):
        Mover(simulation.model, simulation.data, [Drive("conveyor_1_slid", 0.1, line=7)], "here")


@pytest.mark.parametrize(
    ("task", "thing", "link"),
    [(CONVEYOR, "red_block_1", "conveyor_1_tray"), (TURNTABLE, "mushroom_1", "turntable_1_disc")],
    ids=["conveyor", "turntable"],
)
def test_what_lies_on_it_is_carried_along(task, thing, link):
    simulation = MujocoSimulation(task)
    data = simulation.data
    carrier, carried = data.body(link), data.body(f"{thing}_main")

    def relative() -> np.ndarray:
        return carrier.xmat.reshape(3, 3).T @ (carried.xpos - carrier.xpos)

    for seed in range(3):
        simulation.reset(Episode(task.id, seed=seed))
        for _ in range(20):
            simulation.tick(None)
        before, start, way = relative(), carried.xpos.copy(), 0.0
        for _ in range(600):  # 12 s, with at least one turn of the shuttle
            last = carried.xpos.copy()
            simulation.tick(None)
            way += float(np.linalg.norm(carried.xpos - last))
        assert np.linalg.norm(relative() - before) < 3e-3
        assert way > 0.25
        assert start.shape == (3,)


def test_the_arm_cannot_hold_up_what_is_driven():
    simulation = MujocoSimulation(CONVEYOR)
    simulation.reset(Episode(CONVEYOR.id, seed=0))
    joint = simulation.data.joint("conveyor_1_slide")
    course = Course(simulation.scene.problem.moving[0], float(joint.qpos[0]))
    down = np.array([0.5, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0])
    for tick in range(400):
        simulation.tick(down if tick % 10 == 0 else None)
    # The joint was set at the beginning of the last tick.
    expected, speed = course.at(399 * CONVEYOR.tick_s)
    assert joint.qpos[0] == pytest.approx(expected + speed * CONVEYOR.tick_s, abs=1e-4)


def test_where_it_starts_belongs_to_the_seed():
    simulation = MujocoSimulation(CONVEYOR)
    starts = []
    for seed in (1, 2, 1):
        simulation.reset(Episode(CONVEYOR.id, seed=seed))
        starts.append(float(simulation.data.joint("conveyor_1_slide").qpos[0]))
    assert starts[0] == starts[2] != starts[1]
    assert all(-0.2 <= start <= 0.2 for start in starts)


def reach_and_lift(simulation: MujocoSimulation, thing: str, delay_ticks: int) -> bool:
    """Follow a thing from above, close around it and lift it; each look is so many ticks old."""
    task, body = simulation.task, simulation.data.body(f"{thing}_main")
    last, closed_for = None, 0
    for _ in range(task.budget.steps or 0):
        grip = simulation.observe().proprio["robot0_eef_pos"]
        seen = body.xpos.copy()
        drift = np.zeros(3) if last is None else (seen - last) / (1 + delay_ticks / task.ticks_per_step)
        last = seen
        offset = seen + drift - grip
        near = np.linalg.norm(offset[:2]) < 0.012
        offset[2] += 0.0 if near else 0.08
        closes = closed_for > 0 or (near and abs(offset[2]) < 0.012)
        closed_for += closes
        wanted = np.array([0.0, 0.0, 0.1]) if closed_for > 4 else offset
        action = np.array([*np.clip(1.2 * wanted / 0.05, -1.0, 1.0), 0.0, 0.0, 0.0, 1.0 if closes else -1.0])
        for _ in range(delay_ticks):  # the world moves on while the policy thinks
            simulation.tick(None)
        for tick in range(task.ticks_per_step):
            simulation.tick(action if tick == 0 else None)
            if simulation.succeeded:
                return True
    return False


@pytest.mark.parametrize(
    ("task", "thing"),
    [(CONVEYOR, "red_block_1"), (TURNTABLE, "mushroom_1")],
    ids=["conveyor", "turntable"],
)
def test_who_acts_at_once_succeeds_and_who_acts_late_misses(task, thing):
    simulation = MujocoSimulation(task)
    results = {0: [], 40: []}
    for delay, reached in results.items():
        for seed in range(4):
            simulation.reset(Episode(task.id, seed=seed))
            for tick in range(task.settle_steps * task.ticks_per_step):
                simulation.tick(np.array(task.settle_action) if tick == 0 else None)
            reached.append(reach_and_lift(simulation, thing, delay))
    assert sum(results[0]) == 4
    assert sum(results[40]) == 0
