"""Skill: tow a flat thing across the surface it lies on, with the finger tips pressed inside its rim."""

from __future__ import annotations

import numpy as np

from vla_bench.policy.scripted import gripper
from vla_bench.policy.scripted.geometry import UP, unit
from vla_bench.policy.scripted.motion import CLOSE, OPEN, Motion, Pose, approach, clearance
from vla_bench.policy.scripted.skill import Skill
from vla_bench.policy.scripted.world import World
from vla_bench.types import Array, Predicate

_FLAT = 0.04  # height (m) up to which a thing slides without tipping over
# How far (m) below the tips, and ahead of them, they are sent: pressed, so that they do not climb over the
# rim, and less than they are pulled, so that the thing does not stick to the surface.
_PRESS, _LEAD = 0.010, 0.030
_ARRIVED = 0.006
_RETREAT_S = 0.6


def slides(world: World, literal: Predicate) -> bool:
    """Whether a thing is better towed: it lies where it shall go on lying, low and too wide to hold."""
    region = world.state.regions.get(literal.args[-1])
    if literal.name != "on" or region is None or region.parent is not None:
        return False
    points = world.points(literal.args[0])
    extent = np.ptp(points, axis=0)
    lies = abs(float(points[:, 2].min()) - world.floor) < 0.01
    return bool(lies and extent[2] < _FLAT and extent[:2].min() > 2 * gripper.HALF_OPENING)


class Sliding(Skill):
    """Tows a thing to the middle of a region of the workspace; the literal is `on(thing, region)`.

    The tips come down on its middle and slide to the rim ahead, so that it follows as a trailer does.
    """

    def _begin(self, world: World) -> Motion | None:
        if self._satisfied(world):
            return None
        self._start = self._contact(world)
        return self._enter(self._approach, world)

    def _contact(self, world: World) -> Pose:
        """On the middle of the thing."""
        name = self.literal.args[0]
        middle, points = world.entity(name).pos, world.points(name)
        under = points[np.linalg.norm(points[:, :2] - middle[:2], axis=1) < 0.015]
        height = float(under[:, 2].mean()) if len(under) else world.floor
        return Pose(np.array([*middle[:2], height + gripper.TIP_Z]), self._arm.home.mat)

    def _left(self, world: World) -> Array:
        """(3,) horizontal way that is left to go."""
        name, target = self.literal.args
        return (world.state.regions[target].pos - world.entity(name).pos) * (1.0, 1.0, 0.0)

    def _approach(self, world: World) -> Motion | None:
        state = world.state
        distance, angle = self._start.error(state)
        if distance < 0.012 and angle < 0.12:
            return self._enter(self._tow, world)
        if self._satisfied(world) or self._stalled(world, distance + 0.1 * angle):
            return self._let_go(world)
        over = clearance(state.grip_pos, self._start.pos, world.others(), np.zeros((0, 3)))
        return Motion(approach(self._start, state, over, self._arm), CLOSE)

    def _tow(self, world: World) -> Motion | None:
        left = self._left(world)
        distance = float(np.linalg.norm(left))
        if self._satisfied(world) or distance < _ARRIVED or self._stalled(world, distance):
            return self._let_go(world)
        goal = world.state.grip_pos + min(distance, _LEAD) * unit(left) - _PRESS * UP
        return Motion(Pose(goal, self._start.mat), CLOSE)

    def _let_go(self, world: World) -> Motion | None:
        state = world.state
        self._retreat_to = Pose(state.grip_pos + 0.08 * UP, state.grip_mat)
        return self._enter(self._retreat, world)

    def _retreat(self, world: World) -> Motion | None:
        return None if self._elapsed_s(world) > _RETREAT_S else Motion(self._retreat_to, OPEN)
