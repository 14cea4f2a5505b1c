"""Skill: set a thing upright that lies on its side and fits into the hand, by turning it in the air."""

from __future__ import annotations

import numpy as np

from vla_bench.policy.scripted import gripper
from vla_bench.policy.scripted.arm import Arm
from vla_bench.policy.scripted.geometry import UP, rotation
from vla_bench.policy.scripted.grasps import Grasp
from vla_bench.policy.scripted.motion import CLOSE, OPEN, Motion, Pose
from vla_bench.policy.scripted.taking import Taking
from vla_bench.policy.scripted.world import World
from vla_bench.types import Array, Predicate

_AIR = 0.10  # height (m) above its place at which a thing is turned
_DROP = 0.004
_FIT = 2 * gripper.HALF_OPENING - 0.006
_HIGH = 0.4  # how much nearer to the top a hold counts as better, by the way along the thing
_RELEASE_S, _BACK_S = 0.8, 2.0


def fits(world: World, literal: Predicate) -> bool:
    """Whether the thing that shall stand is slim enough to be held across."""
    thing = world.entity(literal.args[0])
    return bool(np.ptp((world.points(thing.name) - thing.pos) @ thing.mat, axis=0)[:2].max() < _FIT)


class Righting(Taking):
    """Takes a thing across, turns its top upwards, sets it down; the literal is `upright(thing)`."""

    def __init__(self, literal: Predicate, arm: Arm) -> None:
        super().__init__(literal, arm)
        self._place: Pose | None = None

    def _cost(self, world: World, grasp: Grasp) -> float:
        """Near the top is better, so that the hand stays clear of the table when the thing stands."""
        thing = world.entity(self._name)
        return grasp.cost - _HIGH * float((grasp.pose.pos - thing.pos) @ thing.mat[:, 2])

    def _taken(self, world: World) -> Motion | None:
        state, thing = world.state, world.entity(self._name)
        turn = _upwards(thing.mat)
        held = turn @ (thing.pos - state.grip_pos)
        below = float((((world.points(self._name) - thing.pos) @ turn.T)[:, 2]).min())
        origin = np.array([*thing.pos[:2], world.floor - below + _DROP])
        self._place = Pose(origin - held, turn @ state.grip_mat)
        self._lift_to = Pose(state.grip_pos + (_AIR + 0.02) * UP, state.grip_mat)
        return self._enter(self._lift, world)

    def _lift(self, world: World) -> Motion | None:
        if not self._held(world, slack=0.010):
            return self._give_up(world)
        distance, _ = self._lift_to.error(world.state)
        if distance < 0.03 or self._stalled(world, distance):
            return self._enter(self._turn, world)
        return Motion(self._lift_to, CLOSE)

    def _turn(self, world: World) -> Motion | None:
        assert self._place is not None
        if not self._held(world, slack=0.010):
            return self._give_up(world)
        above = Pose(self._place.pos + _AIR * UP, self._place.mat)
        distance, angle = above.error(world.state)
        aside = float(np.linalg.norm((above.pos - world.state.grip_pos)[:2]))
        if (angle < 0.1 and aside < 0.02) or self._stalled(world, distance + 0.1 * angle):
            return self._enter(self._lower, world)
        return Motion(above, CLOSE)

    def _lower(self, world: World) -> Motion | None:
        assert self._place is not None
        distance, _ = self._place.error(world.state)
        low = float(world.points(self._name)[:, 2].min()) < world.floor + 2 * _DROP
        if low or distance < 0.008 or self._stalled(world, distance):
            return self._enter(self._release, world)
        return Motion(self._place, CLOSE)

    def _release(self, world: World) -> Motion | None:
        state, elapsed = world.state, self._elapsed_s(world)
        if elapsed > _BACK_S:
            return None
        if gripper.half_opening(state.gripper_qpos) < 0.036 and elapsed < _RELEASE_S:
            return self._open_here(world)
        return Motion(Pose(state.grip_pos - 0.04 * state.grip_mat[:, 2], state.grip_mat), OPEN)


def _upwards(mat: Array) -> Array:
    """The smallest rotation that turns a body's z axis upwards."""
    axis = np.cross(mat[:, 2], UP)
    sine, cosine = float(np.linalg.norm(axis)), float(mat[2, 2])
    if sine < 1e-6:
        return np.eye(3) if cosine > 0.0 else rotation(np.array([1.0, 0.0, 0.0]), np.pi)
    return rotation(axis / sine, float(np.arctan2(sine, cosine)))
