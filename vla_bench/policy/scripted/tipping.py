"""Skill: set a thing upright that lies on its side, by pushing its upper edge over its base."""

from __future__ import annotations

import numpy as np

from vla_bench.policy.scripted import gripper
from vla_bench.policy.scripted.geometry import UP, unit
from vla_bench.policy.scripted.motion import CLOSE, OPEN, Motion, Pose, approach, clearance
from vla_bench.policy.scripted.skill import Skill
from vla_bench.policy.scripted.world import World
from vla_bench.types import Array

_DEPTH = 0.025  # the fingers reach this far (m) below the top of the thing
_AIR = 0.03  # distance (m) of the grip from the face when the push begins
_SPEED = 0.7
_UPRIGHT = 0.9  # cosine of the tilt below which a thing falls back on its base by itself
_PATIENCE_S = 4.0
_RETREAT_S = 1.6  # for as long the thing may rock


class Tipping(Skill):
    """Pushes with closed fingers against the way the thing leans; the literal is `upright(thing)`."""

    def _begin(self, world: World) -> Motion | None:
        if self._satisfied(world):
            return None
        self._start, self._end = self._way(world)
        return self._enter(self._approach, world)

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

    def _approach(self, world: World) -> Motion | None:
        state = world.state
        if self._satisfied(world):
            return None
        distance, angle = self._start.error(state)
        if distance < 0.015 and angle < 0.12:
            return self._enter(self._push, world)
        if self._stalled(world, distance + 0.1 * angle):
            return self._let_go(world)
        over = clearance(state.grip_pos, self._start.pos, world.others(), np.zeros((0, 3)))
        return Motion(approach(self._start, state, over, self._arm), CLOSE)

    def _push(self, world: World) -> Motion | None:
        upright = world.entity(self.literal.args[0]).mat[2, 2] > _UPRIGHT
        distance = self._end.error(world.state)[0]
        if upright or distance < 0.01 or self._elapsed_s(world) > _PATIENCE_S:
            return self._let_go(world)
        return Motion(self._end, CLOSE, speed=_SPEED)

    def _let_go(self, world: World) -> Motion | None:
        state = world.state
        self._retreat_to = Pose(state.grip_pos + 0.08 * UP, state.grip_mat)
        return self._enter(self._retreat, world)

    def _retreat(self, world: World) -> Motion | None:
        return None if self._elapsed_s(world) > _RETREAT_S else Motion(self._retreat_to, OPEN)


def _lean(mat: Array, towards: Array) -> Array:
    """Horizontal unit vector along which a body's z axis leans; `towards` if it points straight down."""
    lean = mat[:, 2] * (1.0, 1.0, 0.0)
    return unit(lean if np.linalg.norm(lean) > 0.1 else towards * (1.0, 1.0, 0.0))
