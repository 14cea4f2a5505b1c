import numpy as np
import pytest

from vla_bench.policy.scripted import gripper
from vla_bench.policy.scripted.geometry import surface_points
from vla_bench.policy.scripted.grasps import grasps, tilted_frames, upright_frames

NOTHING = np.zeros((0, 3))


def block(centre, half):
    return surface_points(np.array(half), 0.006) + np.array(centre)


def inside_hand(pose, points, opening=gripper.HALF_OPENING):
    low, high = gripper.boxes(opening)
    local = (points - pose.pos) @ pose.mat
    return np.any(np.all((local[:, None] > low) & (local[:, None] < high), axis=2))


def test_frames_are_rotations_that_approach_from_above_or_along_the_heading(arm):
    frames = upright_frames(arm.home.mat)
    tilted = tilted_frames(np.array([1.0, 0.0, 0.0]), [0.0, 0.5])
    for mat in [*frames, *tilted]:
        np.testing.assert_allclose(mat.T @ mat, np.eye(3), atol=1e-12)
        assert np.linalg.det(mat) == pytest.approx(1.0)
    assert all(mat[2, 2] == pytest.approx(-1.0) for mat in frames)
    assert [mat[0, 2] for mat in tilted] == pytest.approx([1.0] * 4 + [np.cos(0.5)] * 4)


@pytest.mark.parametrize("turned", [False, True])
def test_fingers_close_across_the_narrow_side(arm, turned):
    half = (0.05, 0.02, 0.03) if turned else (0.02, 0.05, 0.03)
    best = grasps(block((0, 0, 0.03), half), NOTHING, 0.0, upright_frames(arm.home.mat), arm)[0]
    narrow = np.array([0.0, 1.0, 0.0]) if turned else np.array([1.0, 0.0, 0.0])
    assert abs(best.pose.mat[:, 0] @ narrow) == pytest.approx(1.0, abs=0.02)
    assert np.linalg.norm(best.pose.pos[:2]) < 0.01


def test_what_is_wider_than_the_opening_cannot_be_held(arm):
    wide = block((0, 0, 0.03), (0.05, 0.05, 0.03))
    square = upright_frames(arm.home.mat, 2)
    assert grasps(wide, NOTHING, 0.0, square, arm) == []
    assert grasps(0.5 * wide, NOTHING, 0.0, square, arm)


def test_a_wide_vessel_is_held_by_its_rim(arm):
    walls = [((x, 0, 0.04), (0.003, 0.06, 0.04)) for x in (-0.06, 0.06)]
    walls += [((0, y, 0.04), (0.06, 0.003, 0.04)) for y in (-0.06, 0.06)]
    vessel = np.concatenate([block(*wall) for wall in walls])
    best = grasps(vessel, NOTHING, 0.0, upright_frames(arm.home.mat), arm)[0]
    assert np.max(np.abs(best.pose.pos[:2])) == pytest.approx(0.06, abs=0.005)


def test_open_hand_touches_neither_the_thing_nor_its_neighbours_nor_the_floor(arm):
    thing = block((0, 0, 0.03), (0.02, 0.03, 0.03))
    neighbours = np.concatenate(
        [block((0.06, 0, 0.05), (0.02, 0.05, 0.05)), block((0, 0.09, 0.05), (0.05, 0.02, 0.05))]
    )
    found = grasps(thing, neighbours, 0.0, upright_frames(arm.home.mat), arm)
    assert found
    for grasp in found:
        assert not inside_hand(grasp.pose, thing)
        assert not inside_hand(grasp.pose, neighbours)
        assert grasp.pose.pos[2] - gripper.TIP_Z > 0.0


def test_thing_is_held_when_both_pads_touch_it():
    thing = block((0, 0, 0), (0.02, 0.03, 0.03))
    touching, apart = np.array([0.0205, -0.0205]), np.array([0.04, -0.04])
    assert gripper.held(thing, touching)
    assert not gripper.held(thing, apart)
    assert not gripper.held(thing + np.array([0.0, 0.0, 0.1]), touching)
    assert not gripper.held(thing, np.array([0.0005, -0.0005]))
