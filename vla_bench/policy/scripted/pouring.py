"""Skill: pour a thing out of what it lies in, by taking that and tilting it over the goal."""

from __future__ import annotations

import numpy as np

from vla_bench.policy.scripted.arm import Arm
from vla_bench.policy.scripted.geometry import UP, rotation, unit
from vla_bench.policy.scripted.grasps import Grasp
from vla_bench.policy.scripted.motion import CLOSE, Motion, Pose, approach, clearance
from vla_bench.policy.scripted.moving import Moving
from vla_bench.policy.scripted.world import World
from vla_bench.types import Array, Predicate

_TILT = np.radians(110.0)  # by which the container is turned
_STEPS = 6  # in how many turns
_AIR = 0.035  # height (m) of the lip above the rim of the goal
_SHORT = 0.02  # how far (m) before the middle of the goal the lip stays: what slides out flies on
_ASIDE = 0.10  # cost (m) of a grasp with the fingers beside each other
_PATIENCE_S = 4.0  # time that a turned container is held


class Pouring(Moving):
    """Takes what the thing lies in, brings it to the goal, tilts it; the literal is `poured(thing, region)`.

    Then it sets down the container beside what carries the region, as `outof(container, region)` asks for. A
    thing that lies in nothing is carried there by itself.
    """

    def __init__(self, literal: Predicate, arm: Arm) -> None:
        super().__init__(literal, arm)
        self._goal, self._content = literal, literal.args[0]

    def _begin(self, world: World) -> Motion | None:
        if self._satisfied(world):
            return None
        if self._name == self._content:
            self._name = container_of(world, self._content)
        return super()._begin(world)

    def _satisfied(self, world: World) -> bool:
        state = world.state
        return any(
            done and literal == self._goal for literal, done in zip(state.goal, state.satisfied, strict=True)
        )

    def _taken(self, world: World) -> Motion | None:
        if self._name == self._content:
            return super()._taken(world)
        self._way = self._tilted(world)
        self._count = 0
        return self._enter(self._bring, world)

    def _cost(self, world: World, grasp: Grasp) -> float:
        """Fingers before and behind are better than beside: the wrist turns sideways, not forwards."""
        forward, closing = self._arm.home.mat[:, 1], grasp.pose.mat[:, 0]
        return grasp.cost + _ASIDE * (1.0 + float(closing @ forward))

    def _tilted(self, world: World) -> list[Pose]:
        """Poses of the grip, from level to tilted, with the lip before the middle of the goal."""
        state, region = world.state, world.state.regions[self._goal.args[1]]
        axis = self._axis(world)
        flow = np.cross(axis, UP)
        rim = float(world.points(region.parent)[:, 2].max()) if region.parent else world.floor
        load = world.points(self._name) - state.grip_pos
        poses = []
        for angle in np.linspace(0.0, _TILT, _STEPS + 1):
            turn = rotation(axis, float(angle))
            turned = load @ turn.T
            lip = _lip(load, turned, flow)
            at = np.array([*(region.pos - _SHORT * flow)[:2], rim + _AIR]) - lip
            at[2] = max(at[2], rim + _AIR - float(turned[:, 2].min()))
            poses.append(Pose(at, turn @ state.grip_mat))
        return poses

    def _axis(self, world: World) -> Array:
        """Horizontal axis of the tilt: along the closing direction, so that the hand is not in the way.

        Of its two directions the one after which the hand points to the left, seen from the arm: there the
        wrist has room wherever the hand is.
        """
        level = unit(world.state.grip_mat[:, 0] * (1.0, 1.0, 0.0))
        left = np.cross(UP, self._arm.home.mat[:, 1])
        return level if np.cross(level, -UP) @ left > 0.0 else -level

    def _bring(self, world: World) -> Motion | None:
        state, goal = world.state, self._way[0]
        if not self._held(world, slack=0.010):
            return self._give_up(world)
        distance, angle = goal.error(state)
        if (distance < 0.02 and angle < 0.15) or self._stalled(world, distance + 0.1 * angle):
            return self._enter(self._tilt, world)
        load = world.points(self._name) - state.grip_pos
        over = clearance(state.grip_pos, goal.pos, world.others(self._name, self._content), load)
        return Motion(approach(goal, state, over, self._arm), CLOSE)

    def _tilt(self, world: World) -> Motion | None:
        if not self._held(world, slack=0.012):
            return self._give_up(world)
        goal = self._way[self._count]
        distance, angle = goal.error(world.state)
        last = self._count == len(self._way) - 1
        poured = self._satisfied(world)
        if poured or (last and self._elapsed_s(world) > _PATIENCE_S):
            return self._enter(self._level, world)
        if not last and distance < 0.04 and angle < 0.35:
            self._count += 1
            goal = self._way[self._count]
        return Motion(goal, CLOSE)

    def _level(self, world: World) -> Motion | None:
        goal = self._way[self._count]
        distance, angle = goal.error(world.state)
        if self._count > 0 and distance < 0.05 and angle < 0.4:
            self._count -= 1
            goal = self._way[self._count]
        if self._count == 0 and (angle < 0.2 or self._elapsed_s(world) > _PATIENCE_S):
            self.literal = Predicate("outof", (self._name, self._goal.args[1]))
            return super()._taken(world)
        if self._elapsed_s(world) > _PATIENCE_S:
            self._count = 0
        return Motion(goal, CLOSE)


def container_of(world: World, name: str) -> str:
    """The movable thing that the middle of `name` lies deepest in, seen from above; itself if none."""
    middle = world.entity(name).pos
    best, nearest = name, np.inf
    for other in world.state.entities.values():
        if not other.movable or other.name == name:
            continue
        points = world.points(other.name)
        radius = 0.5 * float(np.ptp(points[:, :2], axis=0).max())
        distance = float(
            np.linalg.norm((points[:, :2].max(axis=0) + points[:, :2].min(axis=0)) / 2 - middle[:2])
        )
        if distance < min(radius, nearest) and points[:, 2].max() > middle[2]:
            best, nearest = other.name, distance
    return best


def _lip(load: Array, turned: Array, flow: Array) -> Array:
    """(3,) where things leave the load: the foremost part of its rim, turned with it."""
    rim = load[:, 2] > load[:, 2].max() - 0.008
    ahead = load[rim] @ flow
    return turned[rim][ahead > ahead.max() - 0.01].mean(axis=0)
