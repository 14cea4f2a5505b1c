"""Skill: knock a thing over, by pushing its upper end aside."""

from __future__ import annotations

import numpy as np

from vla_bench.policy.scripted import gripper
from vla_bench.policy.scripted.motion import Pose
from vla_bench.policy.scripted.stroke import Stroke
from vla_bench.policy.scripted.world import World
from vla_bench.types import Array

_DEPTH = 0.034  # the fingers reach this far (m) below the top of the thing
_AIR = 0.045  # distance (m) of the grip from the thing when the push begins
_TURNS = 16  # directions that are looked at
_FALLEN = 0.5  # cosine of the tilt from which a thing that is pushed goes on falling


class Toppling(Stroke):
    """Pushes with closed fingers where there is room to fall; the literal is `toppled(thing)`."""

    retreat_s = 1.0

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

    def _goes_on(self, world: World) -> bool:
        return bool(abs(world.entity(self.literal.args[0]).mat[2, 2]) < _FALLEN)


def _room(points: Array, start: Array, end: Array) -> float:
    """Horizontal distance (m) of the nearest of some points from the way between two places."""
    along = (end - start)[:2]
    offset = points[:, :2] - start[:2]
    share = np.clip(offset @ along / max(float(along @ along), 1e-9), 0.0, 1.0)
    return float(np.linalg.norm(offset - share[:, None] * along, axis=1).min(initial=np.inf))
