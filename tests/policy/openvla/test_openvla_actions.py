"""Laws of action tokens, scalings, gripper and rotation conventions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation
from support.openvla import BRIDGE_OPTIONS

from vla_bench.policy.arm import rotation_vector
from vla_bench.policy.openvla.actions import OFT_EPSILON, ActionTokens, Scaling
from vla_bench.policy.openvla.conventions import Conventions, to_commands

VALUES = arrays(np.float64, (5, 7), elements=st.floats(-1, 1))


def conventions(**change) -> Conventions:
    return Conventions(**{**BRIDGE_OPTIONS, **change})


@given(VALUES, st.sampled_from([16, 256, 1000]))
def test_a_value_comes_back_within_half_a_bin(values, bins):
    tokens = ActionTokens(bins)
    assert np.abs(tokens.decode(tokens.encode(values)) - values).max() <= 1 / (bins - 1) + 1e-12


@given(arrays(np.int64, 20, elements=st.integers(0, 40000)))
def test_any_token_decodes_to_a_bin_centre(ids):
    values = ActionTokens().decode(ids)
    assert np.abs(values).max() < 1
    np.testing.assert_array_equal(ActionTokens().decode(ActionTokens().encode(values)), values)


def test_the_lowest_bin_has_the_highest_token():
    assert ActionTokens(256, 32000).encode(np.array([-1.0, 1.0])).tolist() == [31999, 31744]


@given(VALUES, st.sampled_from([0.0, OFT_EPSILON]))
def test_scaling_maps_the_ends_and_leaves_what_is_masked(values, epsilon):
    low, high = np.linspace(-2, 0, 7), np.linspace(0.5, 3, 7)
    scaling = Scaling(low, high, np.array([True] * 6 + [False]), epsilon)
    found = scaling.unnormalise(values)
    np.testing.assert_array_equal(found[:, 6], values[:, 6])
    np.testing.assert_allclose(scaling.unnormalise(-np.ones(7))[:6], low[:6], atol=1e-7)
    np.testing.assert_allclose(scaling.unnormalise(np.ones(7))[:6], high[:6], atol=1e-7)
    np.testing.assert_allclose(scaling.normalise(found), values, atol=1e-6)


def test_normalised_values_are_clipped_where_the_mask_leaves_them_too():
    scaling = Scaling(np.zeros(2), np.ones(2), np.array([True, False]))
    np.testing.assert_allclose(scaling.normalise(np.array([5.0, -3.0])), [1.0, -1.0])


@pytest.mark.parametrize(("gripper", "value", "command"), [
    ("one_opens", 1.0, -1.0), ("one_opens", 0.0, 1.0), ("one_closes", 1.0, 1.0), ("one_closes", 0.2, -1.0),
])  # fmt: skip
def test_the_gripper_closes_at_plus_one(gripper, value, command):
    action = np.array([[0, 0, 0, 0, 0, 0, value]], float)
    assert to_commands(action, conventions(gripper=gripper))[0, 6] == command


def test_metres_and_euler_angles_become_units_of_the_controller():
    action = np.array([[0.01, -0.02, 0.05, 0.1, -0.2, 0.15, 1.0], [1.0, 0, 0, 0, 0, 0, 0]])
    commands = to_commands(action, conventions(units="metres"))
    np.testing.assert_allclose(commands[0, :3], [0.2, -0.4, 1.0])
    turned = Rotation.from_rotvec(commands[0, 3:6] * 0.5).as_matrix()
    x, y, z = (Rotation.from_rotvec(a * np.eye(3)[i]) for i, a in enumerate(action[0, 3:6]))
    np.testing.assert_allclose(turned, (z * y * x).as_matrix(), atol=1e-12)
    assert commands[1, 0] == 1.0, "beyond the range: clipped"


def test_commands_in_units_of_the_controller_are_left_as_they_are():
    action = np.array([[0.3, -0.2, 0.1, 0.5, -0.9, 0.2, 0.0]])
    np.testing.assert_array_equal(to_commands(action, conventions(units="controller"))[0, :6], action[0, :6])


def test_a_broken_number_stays_broken():
    assert np.isnan(to_commands(np.full((1, 7), np.nan), conventions())).all()


# close to no rotation and to a whole turn the formula, which is the original's, loses its digits
@given(arrays(np.float64, 4, elements=st.floats(-1, 1)).filter(lambda q: np.linalg.norm(q[:3]) > 0.1))
def test_rotation_vectors_turn_as_the_quaternion_does(quat):
    quat = quat / np.linalg.norm(quat)
    vector = rotation_vector(quat)
    assert np.linalg.norm(vector) <= 2 * np.pi + 1e-9
    np.testing.assert_allclose(
        Rotation.from_rotvec(vector).as_matrix(), Rotation.from_quat(quat).as_matrix(), atol=1e-6
    )
