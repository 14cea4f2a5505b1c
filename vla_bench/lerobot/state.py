"""The robot's state as LIBERO's data sets store it: 8 numbers, and back to what a simulation reports."""

from __future__ import annotations

import numpy as np

from vla_bench.policy.arm import STATE_NAMES, robot_state
from vla_bench.types import Array

STATE_SIZE = 8
STATE_FIELDS = ("x", "y", "z", "rotation_x", "rotation_y", "rotation_z", "finger_left", "finger_right")

__all__ = ["STATE_FIELDS", "STATE_NAMES", "STATE_SIZE", "proprio_of", "robot_state"]


def proprio_of(state: Array) -> dict[str, Array]:
    """(8,) position, rotation vector and fingers → `Observation.proprio`.

    The rotation vector has an angle in [0, 2π]; its quaternion (x, y, z, w) has the sign that gives it back.
    """
    state = np.asarray(state, dtype=np.float64)
    vector = state[3:6]
    angle = float(np.linalg.norm(vector))
    axis = vector / angle if angle else np.zeros(3)
    quat = np.append(axis * np.sin(angle / 2), np.cos(angle / 2))
    return dict(zip(STATE_NAMES, (state[:3].copy(), quat, state[6:8].copy()), strict=True))
