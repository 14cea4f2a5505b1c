import dataclasses

import numpy as np
import pytest
from support.worlds import BRIDGE, libero_sample, simulation

from vla_bench import catalog, seeding
from vla_bench.sim.controller import GRIPPER_SPEED, TRANSLATION_M
from vla_bench.sim.simulation import MujocoSimulation
from vla_bench.types import Episode

SAMPLE = [BRIDGE, *libero_sample()[:2]]
UP = np.array([0, 0, 1, 0, 0, 0, 0.0])


def begin(task_id, backend="numba"):
    sim = simulation(task_id, backend)
    sim.reset(Episode(task_id, seed=0))
    return sim


def grip(sim):
    return sim.observe().proprio["robot0_eef_pos"]


def fingers(sim):
    return np.abs(sim.observe().proprio["robot0_gripper_qpos"]).sum()


@pytest.mark.parametrize("task_id", SAMPLE)
def test_the_compiled_controller_agrees_with_the_reference_over_200_random_steps(task_id):
    compiled, reference = begin(task_id), begin(task_id, "numpy")
    assert (compiled.controller.backend, reference.controller.backend) == ("numba", "numpy")
    for action in seeding.generator("eval", "controller", task_id).uniform(-1, 1, (200, 7)):
        compiled.tick(action)
        reference.tick(action)
        assert np.abs(compiled.data.qpos - reference.data.qpos).max() < 1e-6
        assert np.abs(compiled.data.ctrl - reference.data.ctrl).max() < 1e-6


@pytest.mark.parametrize("task_id", SAMPLE)
@pytest.mark.parametrize("command", [UP, np.array([0.4, -0.3, 0.2, 0.5, -0.5, 0.3, 1.0])], ids=["up", "all"])
def test_a_tick_without_a_command_goes_on_with_the_last_one(task_id, command):
    """Two ticks of half the length are one tick: the goal and the gripper's sign stay."""
    task = catalog.task(task_id)
    doubled = dataclasses.replace(task, tick_s=2 * task.tick_s, policy_period_s=2 * task.tick_s)
    halves, whole = begin(task_id), MujocoSimulation(doubled)
    whole.reset(Episode(task_id, seed=0))
    for _ in range(3):
        halves.tick(command)
        halves.tick(None)
        whole.tick(command)
        assert np.abs(halves.data.qpos - whole.data.qpos).max() < 1e-12
        assert np.abs(halves.data.qvel - whole.data.qvel).max() < 1e-9


def test_the_arm_continues_to_its_goal_and_stays_there():
    sim = begin(BRIDGE)
    before = grip(sim)
    sim.tick(UP)
    for _ in range(100):
        sim.tick(None)
    assert grip(sim) - before == pytest.approx([0, 0, TRANSLATION_M], abs=0.004)
    there = grip(sim)
    for _ in range(50):
        sim.tick(None)
    assert grip(sim) == pytest.approx(there, abs=5e-4)


def test_without_any_command_the_arm_holds_its_pose():
    sim = begin(BRIDGE)
    before = grip(sim)
    for _ in range(50):
        sim.tick(None)
    assert grip(sim) == pytest.approx(before, abs=0.002)


def test_a_new_command_starts_from_the_achieved_pose_not_from_the_last_goal():
    sim = begin(BRIDGE)
    before = grip(sim)
    for _ in range(5):
        sim.tick(UP)  # 20 ms each: far too short to reach a goal 50 mm away
    assert grip(sim)[2] - before[2] < 2 * TRANSLATION_M


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_gripper_goes_on_until_it_is_told_otherwise(sign):
    sim = begin(BRIDGE)
    sim.tick(np.array([0, 0, 0, 0, 0, 0, sign]))
    for _ in range(60):
        sim.tick(None)
    assert fingers(sim) == pytest.approx(0.0 if sign > 0 else 0.08, abs=0.004)
    assert sim.controller.closes_gripper == (sign > 0)


def test_the_gripper_takes_only_the_sign():
    a, widths = begin(BRIDGE), []
    for size in (0.1, 1.0, 7.0):
        a.reset(Episode(BRIDGE, seed=0))
        a.tick(np.array([0, 0, 0, 0, 0, 0, size]))
        widths.append(a.data.ctrl.tobytes())
    assert len(set(widths)) == 1
    half = 0.5 * np.ptp(a.model.actuator_ctrlrange[-1])
    a.reset(Episode(BRIDGE, seed=0))
    rest = a.model.actuator_ctrlrange[-2:].mean(axis=1)
    a.tick(np.array([0, 0, 0, 0, 0, 0, 1.0]))
    speed = GRIPPER_SPEED * a.task.substeps_per_tick * half
    assert np.abs(a.data.ctrl[-2:] - rest) == pytest.approx(speed, rel=1e-9)


def test_commands_are_clipped_to_their_range():
    sim, ends = begin(BRIDGE), []
    for scale in (1.0, 2.0, 1e6):
        sim.reset(Episode(BRIDGE, seed=0))
        for _ in range(3):
            sim.tick(np.array([1, -1, 1, -1, 1, -1, 1]) * scale)
        ends.append(sim.data.qpos.tobytes())
    sim.reset(Episode(BRIDGE, seed=0))
    for _ in range(3):
        sim.tick(np.array([1, -1, 1, -1, 1, -1, 1]) * 0.5)
    assert len(set(ends)) == 1
    assert sim.data.qpos.tobytes() not in ends


def test_torques_stay_within_what_the_actuators_give():
    sim = begin(BRIDGE)
    low, high = sim.model.actuator_ctrlrange.T
    for action in seeding.generator("eval", "torques").uniform(-1, 1, (30, 7)):
        sim.tick(action)
        assert (sim.data.ctrl >= low - 1e-12).all()
        assert (sim.data.ctrl <= high + 1e-12).all()
