"""One arm in the words of robot data: its actions in metres and radians, its state as eight numbers."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from vla_bench.types import Array, Observation

# what an action of 1 means to the controller (`ActionChunk`)
METRES_PER_UNIT = 0.05
RADIANS_PER_UNIT = 0.5
STATE_NAMES = ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos")


def from_metres(actions: Array) -> Array:
    """(T, 7) metres, Euler angles (rad; x, y, z, about fixed axes), gripper → (T, 7) the controller's units.

    The gripper is left as it is, and nothing is clipped.
    """
    commands = np.array(actions, dtype=np.float64)
    commands[:, :3] /= METRES_PER_UNIT
    commands[:, 3:6] = Rotation.from_euler("xyz", commands[:, 3:6]).as_rotvec() / RADIANS_PER_UNIT
    return commands


def to_metres(commands: Array) -> Array:
    """(T, 7) the controller's units → (T, 7) metres, Euler angles, gripper; undoes `from_metres`."""
    actions = np.array(commands, dtype=np.float64)
    actions[:, :3] *= METRES_PER_UNIT
    actions[:, 3:6] = Rotation.from_rotvec(actions[:, 3:6] * RADIANS_PER_UNIT).as_euler("xyz")
    return actions


def robot_state(observation: Observation) -> Array:
    """(8,) position of the hand (m), its rotation vector (rad) and the two finger positions (m)."""
    pos, quat, fingers = (observation.proprio[name] for name in STATE_NAMES)
    return np.concatenate([pos, rotation_vector(quat), fingers])


def rotation_vector(quat: Array) -> Array:
    """(4,) unit quaternion (x, y, z, w) → (3,) axis × angle, the angle in [0, 2π].

    The sign of the quaternion is kept as it is: taking the shorter way round, as libraries do, cost OFT
    14 points on libero_goal and 40 on libero_10.
    """
    w = min(max(float(quat[3]), -1.0), 1.0)
    sine = np.sqrt(1.0 - w * w)
    return np.zeros(3) if sine == 0.0 else np.asarray(quat[:3]) * 2.0 * np.arccos(w) / sine
