from dataclasses import replace

import numpy as np
import pytest

from vla_bench.policy.scripted.arm import LIMIT, Arm
from vla_bench.policy.scripted.geometry import UP, rotation
from vla_bench.policy.scripted.motion import CLOSE, OPEN, Motion, Pose, approach, clearance, servo

PERIODS_S = [0.05, 0.2]


@pytest.mark.parametrize("period_s", PERIODS_S)
def test_action_points_to_the_goal_and_stays_in_its_box(arm, make_state, make_solid, period_s):
    state = make_state(make_solid("thing", [((0, 0, 0.02), (0.02, 0.02, 0.02))]))
    goal = Pose(state.grip_pos + np.array([-0.2, 0.1, 0.0]), rotation(UP, 1.0) @ state.grip_mat)
    action = servo(Motion(goal, CLOSE), state, arm, period_s)
    assert action.shape == (7,)
    assert np.abs(action).max() <= 1.0
    assert action[1] / action[0] == pytest.approx(-0.5)
    assert action[5] > 0.0
    assert action[6] == CLOSE


@pytest.mark.parametrize("period_s", PERIODS_S)
def test_no_motion_is_asked_for_at_the_goal(arm, make_state, make_solid, period_s):
    state = make_state(make_solid("thing", [((0, 0, 0.02), (0.02, 0.02, 0.02))]))
    action = servo(Motion(Pose(state.grip_pos, state.grip_mat), OPEN), state, arm, period_s)
    np.testing.assert_allclose(action, [0, 0, 0, 0, 0, 0, OPEN], atol=1e-9)


def test_hand_is_never_sent_outwards_past_the_limit(arm):
    outward = np.array([1.0, 0.0, 0.0])
    for x in np.linspace(0.0, 0.5, 60):
        here = arm.home.pos + np.array([x, 0.0, 0.0])
        aim = arm.brake(here, here + 0.05 * outward, arm.home.mat)
        # A step along the tangent of the sphere leaves it by its curvature, not more.
        limit = max(LIMIT, arm.stretch(Pose(here, arm.home.mat))) + 1e-3
        assert arm.stretch(Pose(aim, arm.home.mat)) <= limit


def test_way_leads_up_then_across_then_down(arm, make_state, make_solid):
    state = make_state(make_solid("thing", [((0, 0, 0.02), (0.02, 0.02, 0.02))]), grip=(0.0, 0.0, 0.05))
    arm = Arm(replace(state, grip_pos=np.array([0.0, 0.0, 0.3])))
    goal = Pose(np.array([0.15, 0.1, 0.02]), arm.home.mat)
    heights, distances = [], []
    for _ in range(200):
        way = approach(goal, state, 0.2, arm)
        step = way.pos - state.grip_pos
        state = replace(state, grip_pos=state.grip_pos + 0.3 * step)
        heights.append(state.grip_pos[2])
        distances.append(np.linalg.norm((state.grip_pos - goal.pos)[:2]))
    assert max(heights) > 0.17
    assert all(h > 0.1 for h, d in zip(heights, distances, strict=True) if 0.03 < d < 0.15)
    np.testing.assert_allclose(state.grip_pos, goal.pos, atol=1e-3)


def test_clearance_passes_over_what_stands_between_and_ignores_the_rest():
    start, end = np.array([0.0, 0.0, 0.1]), np.array([0.4, 0.0, 0.1])
    tower = np.array([[0.2, 0.0, 0.3]])
    load = np.array([[0.02, 0.0, -0.05]])
    assert clearance(start, end, tower, load) > 0.35
    assert clearance(start, end, tower + np.array([0.0, 0.3, 0.0]), load) == pytest.approx(0.1)


def test_a_share_of_the_step_is_asked_for_but_all_of_the_drift(arm, make_state, make_solid):
    state = make_state(make_solid("thing", [((0, 0, 0.02), (0.02, 0.02, 0.02))]))
    drift = np.array([0.008, 0.0, 0.0])
    near = Pose(state.grip_pos + np.array([0.01, 0.0, 0.0]), state.grip_mat)
    whole, half = (servo(Motion(near, OPEN), state, arm, 0.2, eagerness)[0] for eagerness in (1.0, 0.5))
    assert half == pytest.approx(whole / 2)
    carried = servo(
        Motion(Pose(state.grip_pos + drift, state.grip_mat), OPEN, drift=drift), state, arm, 0.2, 0.5
    )
    assert carried[0] == pytest.approx(0.008 / 0.05), "where it is right, it goes with the target"
    np.testing.assert_array_equal(
        servo(Motion(near, OPEN, drift=drift), state, arm, 0.2), servo(Motion(near, OPEN), state, arm, 0.2)
    )
