"""Rotations that a checkpoint writes as two rows of a matrix, and rows that are no rotation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from vla_bench.policy.diffusion.conventions import Conventions, to_commands
from vla_bench.types import Array

CONVENTIONS = Conventions(
    format="official", mirrored=False, actions="absolute_rot6d", gripper="closes", control_hz=20
)


def actions(rows: list[tuple[Array, Array]]) -> Array:
    return np.array([[0.1, 0.2, 0.3, *first, *second, 1.0] for first, second in rows], dtype=float)


def test_rows_of_any_length_are_the_rotation_that_they_span():
    turns = Rotation.from_rotvec([[0.3, -0.2, 0.5], [0.0, 0.0, 0.0], [1.0, 2.0, -0.5]])
    rows = [(0.7 * m[0], 1.4 * m[1] + 0.2 * m[0]) for m in turns.as_matrix()]
    found = to_commands(actions(rows), CONVENTIONS)
    np.testing.assert_allclose(found[:, 3:6], turns.as_rotvec(), atol=1e-12)
    np.testing.assert_array_equal(found[:, [0, 1, 2, 6]], [[0.1, 0.2, 0.3, 1.0]] * 3)


@pytest.mark.parametrize(
    "row",
    [
        (np.ones(3), np.ones(3)), (np.ones(3), -np.ones(3)), (np.zeros(3), np.ones(3)),
        (np.ones(3), np.zeros(3)), (np.full(3, np.nan), np.ones(3)), (np.full(3, np.inf), np.ones(3)),
    ],
)  # fmt: skip
def test_rows_that_span_nothing_are_not_a_number_and_their_neighbours_stay(row):
    """What a broken quantisation says must be the policy's failure."""
    good = (np.array([0.0, 1.0, 0.0]), np.array([-1.0, 0.0, 0.0]))
    found = to_commands(actions([good, row, good]), CONVENTIONS)
    np.testing.assert_allclose(found[[0, 2], 3:6], [[0.0, 0.0, -np.pi / 2]] * 2, atol=1e-12)
    assert np.isnan(found[1, 3:6]).all()
    np.testing.assert_array_equal(found[1, :3], [0.1, 0.2, 0.3])
