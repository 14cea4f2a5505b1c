import numpy as np
import pytest

from vla_bench.policy.scripted.geometry import (
    UP,
    BoxCloud,
    HeightField,
    rotation,
    rotation_vector,
    surface_points,
    unit,
)
from vla_bench.types import Boxes


@pytest.mark.parametrize("angle", [0.0, 1e-4, 0.5, 2.0, 3.1, np.pi])
def test_rotation_vector_inverts_rotation(angle):
    axis = unit(np.array([1.0, -2.0, 0.5]))
    vector = rotation_vector(rotation(axis, angle))
    np.testing.assert_allclose(
        rotation(unit(vector), float(np.linalg.norm(vector))), rotation(axis, angle), atol=1e-7
    )
    assert np.linalg.norm(vector) == pytest.approx(angle, abs=1e-7)


def test_surface_points_lie_on_the_box_and_leave_no_gap():
    half = np.array([0.03, 0.02, 0.001])
    points = surface_points(half, 0.006)
    assert np.allclose(np.max(np.abs(points) / half, axis=1), 1.0)
    probe = np.array([0.0113, -0.0071, 0.001])
    assert np.linalg.norm(points - probe, axis=1).min() < 0.006
    assert np.array([0.03, 0.02, 0.001]) == pytest.approx(points.max(axis=0))


def test_cloud_moves_with_its_boxes():
    cloud = BoxCloud(np.array([[0.02, 0.03, 0.04]]), 0.01)
    here = Boxes(np.zeros((1, 3)), np.eye(3)[None], np.array([[0.02, 0.03, 0.04]]), ("a",))
    turn, shift = rotation(UP, 0.7), np.array([[0.1, 0.2, 0.3]])
    there = Boxes(shift, turn[None], here.half, here.link)
    np.testing.assert_allclose(cloud.at(there), cloud.at(here) @ turn.T + shift)


def test_body_rests_on_the_highest_thing_below_it_and_else_on_the_floor():
    table_block = surface_points(np.array([0.05, 0.05, 0.04]), 0.005) + np.array([0.0, 0.0, 0.04])
    body = surface_points(np.array([0.02, 0.02, 0.01]), 0.005) + np.array([0.0, 0.0, 0.5])
    rest = HeightField(table_block, 0.0).rest(body, np.array([[0.0, 0.0], [0.2, 0.0]]))
    np.testing.assert_allclose(0.49 + rest, [0.08, 0.0], atol=1e-9)


def test_body_sinks_into_a_hollow_that_is_wide_enough_for_it():
    walls = [((x, 0.0), (0.004, 0.06)) for x in (-0.06, 0.06)] + [
        ((0.0, y), (0.06, 0.004)) for y in (-0.06, 0.06)
    ]
    shell = np.concatenate(
        [surface_points(np.array([*half, 0.05]), 0.005) + np.array([*centre, 0.05]) for centre, half in walls]
    )
    narrow = surface_points(np.array([0.03, 0.03, 0.02]), 0.005) + np.array([0.0, 0.0, 0.5])
    wide = surface_points(np.array([0.08, 0.03, 0.02]), 0.005) + np.array([0.0, 0.0, 0.5])
    field, here = HeightField(shell, 0.0), np.zeros((1, 2))
    assert 0.48 + field.rest(narrow, here)[0] == pytest.approx(0.0)
    assert 0.48 + field.rest(wide, here)[0] == pytest.approx(0.10)
