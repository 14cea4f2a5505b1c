"""Skill: knock a thing over, by pushing its upper end aside."""

from __future__ import annotations

import numpy as np

from vla_bench.policy.scripted import gripper
from vla_bench.policy.scripted.geometry import UP
from vla_bench.policy.scripted.motion import CLOSE, OPEN, Motion, Pose, approach, clearance
from vla_bench.policy.scripted.skill import Skill
from vla_bench.policy.scripted.world import World
from vla_bench.types import Array

_DEPTH = 0.034  # the fingers reach this far (m) below the top of the thing
_AIR = 0.045  # distance (m) of the grip from the thing when the push begins
_TURNS = 16  # directions that are looked at
_SPEED = 0.7
_FALLEN = 0.5  # cosine of the tilt from which a thing that is pushed goes on falling
_PATIENCE_S = 4.0
_RETREAT_S = 1.0


class Toppling(Skill):
    """Pushes with closed fingers where there is room to fall; the literal is `toppled(thing)`."""

    def _begin(self, world: World) -> Motion | None:
        if self._satisfied(world):
            return None
        self._start, self._end = self._way(world)
        return self._enter(self._approach, world)

    def _way(self, world: World) -> tuple[Pose, Pose]:
        """From beside the top of the thing, across it, to where the top lies once it has fallen."""
        name, mat = self.literal.args[0], self._arm.home.mat
        points = world.points(name)
        low, high = points.min(axis=0), points.max(axis=0)
        height, radius = float(high[2] - low[2]), 0.5 * float(np.ptp(points[:, :2], axis=0).max())
        heading = self._heading(world, height + radius, radius + _AIR)
        at = np.array([*(low + high)[:2] / 2, max(high[2] - _DEPTH + gripper.TIP_Z, world.floor + 0.02)])
        return Pose(at - (radius + _AIR) * heading, mat), Pose(at + height * heading, mat)

    def _heading(self, world: World, ahead: float, behind: float) -> Array:
        """Horizontal unit vector with the most room, before the thing for it and behind it for the hand."""
        name = self.literal.args[0]
        middle, others = world.points(name).mean(axis=0), world.others(name)
        turns = np.linspace(-np.pi, np.pi, _TURNS, endpoint=False)
        headings = np.column_stack([np.cos(turns), np.sin(turns), np.zeros(_TURNS)])
        mat = self._arm.home.mat
        # The way begins behind the thing, and need not be gone to its end.
        strain = [
            3.0 * self._arm.strain(Pose(middle - behind * h, mat))
            + self._arm.strain(Pose(middle + ahead * h, mat))
            for h in headings
        ]
        room = [
            min(_room(others, middle, middle + ahead * h), _room(others, middle, middle - behind * h))
            for h in headings
        ]
        return headings[int(np.argmax(np.minimum(room, 0.08) - strain))]

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
        fallen = abs(world.entity(self.literal.args[0]).mat[2, 2]) < _FALLEN
        distance = self._end.error(world.state)[0]
        if fallen or distance < 0.01 or self._elapsed_s(world) > _PATIENCE_S:
            return self._let_go(world)
        return Motion(self._end, CLOSE, speed=_SPEED)

    def _let_go(self, world: World) -> Motion | None:
        state = world.state
        self._retreat_to = Pose(state.grip_pos + 0.08 * UP, state.grip_mat)
        return self._enter(self._retreat, world)

    def _retreat(self, world: World) -> Motion | None:
        return None if self._elapsed_s(world) > _RETREAT_S else Motion(self._retreat_to, OPEN)


def _room(points: Array, start: Array, end: Array) -> float:
    """Horizontal distance (m) of the nearest of some points from the way between two places."""
    along = (end - start)[:2]
    offset = points[:, :2] - start[:2]
    share = np.clip(offset @ along / max(float(along @ along), 1e-9), 0.0, 1.0)
    return float(np.linalg.norm(offset - share[:, None] * along, axis=1).min(initial=np.inf))
