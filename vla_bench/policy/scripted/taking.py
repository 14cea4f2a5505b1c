"""What skills share that take a thing: choose a grasp, follow the thing, close the fingers, or try again."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np

from vla_bench.policy.scripted import gripper
from vla_bench.policy.scripted.arm import Arm
from vla_bench.policy.scripted.geometry import angle_between
from vla_bench.policy.scripted.grasps import Grasp, grasps, tilted_frames, upright_frames
from vla_bench.policy.scripted.motion import CLOSE, OPEN, Motion, Pose, approach, clearance
from vla_bench.policy.scripted.skill import Skill
from vla_bench.policy.scripted.world import World
from vla_bench.types import Array, Predicate

_POOR = 0.10  # cost (m) of a grasp above which tilted ones are tried too
_TILTS = (np.pi / 2.8, np.pi / 4)  # rad below the horizontal
_PATIENCE_S = 4.0  # time after which an approach has failed


@dataclass(frozen=True, slots=True)
class Hold:
    """A grasp in the frame of the thing, so that it moves with the thing."""

    pos: Array
    mat: Array

    @staticmethod
    def of(grasp: Grasp, pos: Array, mat: Array) -> Hold:
        """The grasp seen from a body at `pos`, `mat`."""
        return Hold(mat.T @ (grasp.pose.pos - pos), mat.T @ grasp.pose.mat)

    def pose(self, pos: Array, mat: Array) -> Pose:
        """The grasp of a body at `pos`, `mat`."""
        return Pose(pos + mat @ self.pos, mat @ self.mat)

    def near(self, other: Hold) -> bool:
        """Whether two grasps are practically the same."""
        return bool(np.linalg.norm(self.pos - other.pos) < 0.015) and angle_between(self.mat, other.mat) < 0.3


class Taking(Skill):
    """Takes the thing that the literal's first argument names, also from under way; then `_taken` goes on.

    Starts again from wherever it finds itself.
    """

    def __init__(self, literal: Predicate, arm: Arm) -> None:
        super().__init__(literal, arm)
        self._name = literal.args[0]
        self._failed: list[Hold] = []
        self._hold: Hold | None = None

    def excuse(self, world: World) -> None:
        """No grasp has failed; and what somebody else has taken is in the hand, however it was taken."""
        super().excuse(world)
        self._failed.clear()
        if self._stage == self._approach:
            self._since_ns = world.state.time_ns
            if self._held(world):
                self._taken(world)

    @abstractmethod
    def _taken(self, world: World) -> Motion | None:
        """The thing is in the hand: what follows."""

    def _held(self, world: World, slack: float = 0.004) -> bool:
        return gripper.held(world.in_grip(world.points(self._name)), world.state.gripper_qpos, slack)

    def _begin(self, world: World) -> Motion | None:
        if self._satisfied(world):
            return None
        self._hold = self._choose(world)
        return self._enter(self._approach, world)

    def _choose(self, world: World) -> Hold:
        """The best hold that has not failed yet; when all have, the best once more."""
        thing = world.entity(self._name)
        found = sorted(_grasps_of(world, self._name, self._arm), key=lambda grasp: self._cost(world, grasp))
        holds = [Hold.of(grasp, thing.pos, thing.mat) for grasp in found]
        fresh = [hold for hold in holds if not any(hold.near(failed) for failed in self._failed)]
        if not fresh:
            self._failed.clear()
        return (fresh or holds)[0]

    def _cost(self, world: World, grasp: Grasp) -> float:
        """What a grasp costs (m) for what is done with it; the least is tried first."""
        return grasp.cost

    def _approach(self, world: World) -> Motion | None:
        state, thing = world.state, world.entity(self._name)
        if self._satisfied(world):
            return None
        assert self._hold is not None
        goal = self._hold.pose(thing.pos, thing.mat)
        ahead = self._hold.pose(*world.ahead(self._name))
        distance, angle = goal.error(state)
        if distance < 0.008 and angle < 0.12:
            self._closing, self._rides = ahead, world.moves(self._name)
            return self._enter(self._close, world)
        if self._stalled(world, distance + 0.1 * angle) or self._elapsed_s(world) > _PATIENCE_S:
            return self._give_up(world)
        over = clearance(state.grip_pos, ahead.pos, world.others(), np.zeros((0, 3)))
        return Motion(approach(ahead, state, over, self._arm), OPEN, drift=ahead.pos - goal.pos)

    def _close(self, world: World) -> Motion | None:
        assert self._hold is not None
        thing = world.entity(self._name)
        if self._held(world) and self._fingers_stand(world):
            return self._taken(world)
        gone = self._hold.pose(thing.pos, thing.mat).error(world.state)[0] > 0.04
        if (gone or self._fingers_stand(world)) and not self._held(world):
            return self._give_up(world)
        # What only the fingers push is not followed: it would be chased away.
        if self._rides and world.moves(self._name):
            self._closing = self._hold.pose(*world.ahead(self._name))
            drift = self._closing.pos - self._hold.pose(thing.pos, thing.mat).pos
            return Motion(self._closing, CLOSE, drift=drift)
        return Motion(self._closing, CLOSE)

    def _give_up(self, world: World) -> Motion | None:
        """Open the hand, back off, and take another grasp."""
        if self._hold is not None:
            self._failed.append(self._hold)
        state = world.state
        self._retreat_to = Pose(state.grip_pos - 0.06 * state.grip_mat[:, 2], state.grip_mat)
        return self._enter(self._retreat, world)

    def _retreat(self, world: World) -> Motion | None:
        opening = gripper.half_opening(world.state.gripper_qpos)
        away = self._retreat_to.error(world.state)[0] < 0.02
        if self._elapsed_s(world) > 1.5 or (away and opening > 0.034):
            return self._begin(world)
        return Motion(self._retreat_to, OPEN) if opening > 0.02 else self._open_here(world)


def _grasps_of(world: World, name: str, arm: Arm) -> list[Grasp]:
    """Grasps of a thing, best first; at least one, however poor."""
    body, others, home = world.points(name), world.others(name), arm.home.mat
    found = grasps(body, others, world.floor, upright_frames(home), arm)
    if not found or found[0].cost > _POOR:
        turns = np.linspace(-np.pi, np.pi, 8, endpoint=False)
        headings = [np.array([np.cos(turn), np.sin(turn), 0.0]) for turn in turns]
        frames = [mat for heading in headings for mat in tilted_frames(heading, _TILTS)]
        found = sorted(found + grasps(body, others, world.floor, frames, arm), key=lambda grasp: grasp.cost)
    if found:
        return found
    top = np.array([*body.mean(axis=0)[:2], body[:, 2].max()])
    return [Grasp(Pose(top, upright_frames(home, 1)[0]), np.inf)]
