"""How far the Panda reaches, from its pose at rest.

The snapshot says where the hand is, not where the arm stands; but the arm begins every episode in its rest
pose, which gives the shoulder to a centimetre. A stretched arm does not come back by itself: the elbow snaps
to its limit, where pulling has no effect. So nothing is ever asked for beyond a safe radius.
"""

from __future__ import annotations

import numpy as np

from vla_bench.policy.scripted.geometry import UP, unit
from vla_bench.policy.scripted.motion import Pose
from vla_bench.types import Array, WorldState

# Shoulder (joint 2) seen from the hand at rest (m): this far back, and up.
_SHOULDER_BACK, _SHOULDER_UP = 0.449, 0.075
# Wrist (joint 6) seen from the grip (m): this far against the approach, and towards the arm.
_WRIST_UP, _WRIST_BACK = 0.2035, 0.088
# Distance (m) of wrist and shoulder, with the elbow folded ...
NEAREST = 0.35
# ... and with a long arm; 0.719 is stretched. Ways stay within the first, momentum within the second.
RADIUS, LIMIT = 0.665, 0.685


class Arm:
    """Reach of the arm, and the orientation of the hand at rest.

    Args:
        state: The world at the beginning, the arm in its rest pose.
    """

    def __init__(self, state: WorldState) -> None:
        self.home = Pose(state.grip_pos.copy(), state.grip_mat.copy())
        forward = unit(state.grip_mat[:, 1] * (1.0, 1.0, 0.0))
        self.shoulder = state.grip_pos - _SHOULDER_BACK * forward + _SHOULDER_UP * UP

    def stretch(self, pose: Pose) -> float:
        """Distance (m) of wrist and shoulder at a pose of the grip."""
        return float(np.linalg.norm(pose.pos - self._offset(pose) - self.shoulder))

    def strain(self, pose: Pose) -> float:
        """Cost (m) of a pose near the end of the reach or near the shoulder, and a large one beyond reach."""
        stretch = self.stretch(pose)
        long = max(0.0, stretch - 0.62) + 20.0 * max(0.0, stretch - LIMIT)
        return long + 0.5 * max(0.0, NEAREST - stretch)

    def twist(self, mat: Array, by: float = 0.0) -> float:
        """Cost (m) of turning the wrist from its rest to `mat` and `by` (rad, about the vertical) further."""
        angle = np.arctan2(mat[1, 0], mat[0, 0]) - np.arctan2(self.home.mat[1, 0], self.home.mat[0, 0])
        wrapped = (angle + np.pi) % (2 * np.pi) - np.pi
        return 0.05 * max(0.0, abs(wrapped + by) - 1.8)

    def lower(self, pose: Pose, radius: float = RADIUS) -> Pose:
        """The nearest pose within `radius` (m) below, or inwards where there is none."""
        offset = self._offset(pose) + self.shoulder
        across = (pose.pos - offset)[:2]
        free = radius**2 - float(across @ across)
        if free < 0.0:
            return self.draw_in(pose)
        height = np.clip(pose.pos[2], offset[2] - np.sqrt(free), offset[2] + np.sqrt(free))
        return Pose(np.array([*pose.pos[:2], height]), pose.mat)

    def draw_in(self, pose: Pose) -> Pose:
        """The nearest reachable pose at the same height, nearer to the arm; as low as need be."""
        offset = self._offset(pose) + self.shoulder
        wrist = pose.pos - offset
        wrist[2] = np.clip(wrist[2], -0.9 * RADIUS, 0.9 * RADIUS)
        radius = np.sqrt(RADIUS**2 - wrist[2] ** 2)
        length = float(np.linalg.norm(wrist[:2]))
        wrist[:2] *= min(1.0, radius / max(length, 1e-9))
        return Pose(wrist + offset, pose.mat)

    def brake(self, pos: Array, aim: Array, mat: Array) -> Array:
        """Where to aim instead: slower with a long arm, and never outwards past the limit.

        Args:
            pos: Where the grip is.
            aim: Where it is sent.
            mat: Its orientation.
        """
        wrist = pos - self._offset(Pose(pos, mat)) - self.shoulder
        stretch, outward = float(np.linalg.norm(wrist)), unit(wrist)
        shift = (aim - pos) * np.clip((0.70 - stretch) / 0.08, 0.35, 1.0)
        allowed = max(0.0, 0.6 * (LIMIT - stretch))
        return pos + shift - max(0.0, float(shift @ outward) - allowed) * outward

    def _offset(self, pose: Pose) -> Array:
        """(3,) from the wrist to the grip: back along the approach, then towards the arm in its plane."""
        outward = unit((pose.pos - self.shoulder) * (1.0, 1.0, 0.0))
        along = pose.mat[:, 2]
        return _WRIST_UP * along + _WRIST_BACK * unit(np.cross(along, np.cross(UP, outward)))
