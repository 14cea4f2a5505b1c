"""Skill: set a thing upright that lies on its side, by pushing its upper edge over its base."""

from __future__ import annotations

import numpy as np

from vla_bench.policy.scripted import gripper
from vla_bench.policy.scripted.geometry import unit
from vla_bench.policy.scripted.motion import Pose
from vla_bench.policy.scripted.stroke import Stroke
from vla_bench.policy.scripted.world import World
from vla_bench.types import Array

_DEPTH = 0.025  # the fingers reach this far (m) below the top of the thing
_AIR = 0.03  # distance (m) of the grip from the face when the push begins
_UPRIGHT = 0.9  # cosine of the tilt below which a thing falls back on its base by itself


class Tipping(Stroke):
    """Pushes with closed fingers against the way the thing leans; the literal is `upright(thing)`."""

    retreat_s = 1.6  # for as long the thing may rock

    def _way(self, world: World) -> tuple[Pose, Pose]:
        """From beyond the edge that should be on top, to where that edge stands when the thing does."""
        name, mat = self.literal.args[0], self._arm.home.mat
        thing, points = world.entity(name), world.points(name)
        lean = _lean(thing.mat, towards=mat[:, 1])
        along, top = (points - thing.pos) @ lean, float(points[:, 2].max())
        height = max(top - _DEPTH, world.floor + gripper.TIP_Z + 0.004)
        high = points[:, 2] > height - gripper.TIP_Z
        start, length = float(along[high].max()) + _AIR, float(np.ptp(along)) + top - world.floor
        at = np.array([*thing.pos[:2], height])
        return Pose(at + start * lean, mat), Pose(at + (start - length) * lean, mat)

    def _goes_on(self, world: World) -> bool:
        return bool(world.entity(self.literal.args[0]).mat[2, 2] > _UPRIGHT)


def _lean(mat: Array, towards: Array) -> Array:
    """Horizontal unit vector along which a body's z axis leans; `towards` if it points straight down."""
    lean = mat[:, 2] * (1.0, 1.0, 0.0)
    return unit(lean if np.linalg.norm(lean) > 0.1 else towards * (1.0, 1.0, 0.0))
