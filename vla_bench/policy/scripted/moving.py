"""Skill: bring a thing where `in` or `on` wants it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_bench.policy.scripted import gripper
from vla_bench.policy.scripted.arm import Arm
from vla_bench.policy.scripted.geometry import UP, rotation_vector
from vla_bench.policy.scripted.grasps import Grasp, grasps, upright_frames
from vla_bench.policy.scripted.motion import CLOSE, OPEN, Motion, Pose, approach, clearance
from vla_bench.policy.scripted.placing import Place, find_place
from vla_bench.policy.scripted.world import World
from vla_bench.types import Array, Predicate

_STALLED = 0.004  # speed (m/s) of the fingers below which they have stopped
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
        angle = np.linalg.norm(rotation_vector(self.mat @ other.mat.T))
        return bool(np.linalg.norm(self.pos - other.pos) < 0.015 and angle < 0.3)


class Fingers:
    """Speed of the fingers, from successive observations."""

    def __init__(self) -> None:
        self._last: tuple[int, float] | None = None
        self.speed = np.inf

    def see(self, time_ns: int, opening: float) -> None:
        """Take note of the opening (m) at an instant."""
        if self._last is not None and time_ns > self._last[0]:
            self.speed = abs(opening - self._last[1]) / ((time_ns - self._last[0]) * 1e-9)
        self._last = (time_ns, opening)


class Moving:
    """Holds a thing, carries it, lets it go; starts again from wherever it finds itself.

    Args:
        literal: `in(thing, region)`, `on(thing, region)` or `on(thing, thing)`.
        arm: Reach, and the orientation at rest.
    """

    def __init__(self, literal: Predicate, arm: Arm) -> None:
        self.literal, self._arm, self._home = literal, arm, arm.home.mat
        self._name = literal.args[0]
        self._fingers = Fingers()
        self._failed: list[Hold] = []
        self._hold: Hold | None = None
        self._place: Place | None = None
        self._closing_since_ns: int | None = None
        self._since_ns = 0
        self._carrying = False
        self._releasing = False
        self._retreat: Pose | None = None
        self._progress: tuple[int, float] = (0, np.inf)
        self._jams = 0
        self.phase = "start"

    def step(self, world: World) -> Motion | None:
        """What to do next; None when the thing has been let go."""
        state = world.state
        self._fingers.see(state.time_ns, gripper.half_opening(state.gripper_qpos))
        # Once held, a thing that has shifted between the fingers is still held.
        slack = 0.010 if self._carrying else 0.004
        held = gripper.held(world.in_grip(world.points(self._name)), state.gripper_qpos, slack)
        if self._retreat is not None:
            return self._back_off(world)
        if self._releasing:
            return self._let_go(world, held)
        if self._carrying and not held:
            self._give_up(world)
        if self._carrying or (held and self._fingers.speed < _STALLED and self._closing_since_ns is not None):
            return self._carry(world)
        return self._take(world)

    # ── take ───────────────────────────────────────────────────────────────────────────────────────────

    def _take(self, world: World) -> Motion:
        state, thing = world.state, world.entity(self._name)
        if self._hold is None:
            self._hold = self._choose(world)
            self._since_ns, self._closing_since_ns = state.time_ns, None
            self._progress = (state.time_ns, np.inf)
        goal = self._hold.pose(thing.pos, thing.mat)
        distance, angle = goal.error(state)
        if self._closing_since_ns is not None:
            self.phase = "close"
            closed = state.time_ns - self._closing_since_ns > 0.3e9 and self._fingers.speed < _STALLED
            if (closed or distance > 0.04) and not gripper.held(
                world.in_grip(world.points(self._name)), state.gripper_qpos
            ):
                return self._give_up(world)
            return Motion(self._closing_pose, CLOSE)
        if distance < 0.008 and angle < 0.12:
            self._closing_since_ns, self._closing_pose = state.time_ns, goal
            return Motion(goal, CLOSE)
        late = state.time_ns - self._since_ns > _PATIENCE_S * 1e9
        if late or self._stalled(state.time_ns, distance + 0.1 * angle):
            return self._give_up(world)
        self.phase = "approach"
        start, others = state.grip_pos, world.others()
        over = clearance(start, goal.pos, others, np.zeros((0, 3)))
        return Motion(approach(goal, state, over, self._arm), OPEN)

    def _choose(self, world: World) -> Hold:
        thing, state = world.entity(self._name), world.state
        found = grasps(
            world.points(self._name), world.others(self._name), world.floor,
            upright_frames(self._home), self._arm,
        )  # fmt: skip
        holds = [Hold.of(grasp, thing.pos, thing.mat) for grasp in found]
        for hold in holds:
            if not any(hold.near(failed) for failed in self._failed):
                return hold
        self._failed.clear()
        if holds:
            return holds[0]
        middle = world.points(self._name)
        top = Pose(np.array([*middle.mean(axis=0)[:2], middle[:, 2].max()]), upright_frames(self._home, 1)[0])
        return Hold.of(Grasp(top, 0.0), thing.pos, thing.mat)

    def _give_up(self, world: World) -> Motion:
        """Open the hand, back off, and take another grasp."""
        if self._hold is not None:
            self._failed.append(self._hold)
        self._forget()
        state = world.state
        self._retreat = Pose(state.grip_pos - 0.06 * state.grip_mat[:, 2], state.grip_mat)
        self._since_ns = state.time_ns
        return self._back_off(world)  # type: ignore[return-value]

    def _forget(self) -> None:
        self._hold = self._place = self._closing_since_ns = None
        self._carrying = self._releasing = False

    def _back_off(self, world: World) -> Motion | None:
        self.phase = "retreat"
        state = world.state
        assert self._retreat is not None
        pose = self._retreat
        opened = gripper.half_opening(state.gripper_qpos) > 0.034
        late = state.time_ns - self._since_ns > 1.5e9
        if late or (opened and pose.error(state)[0] < 0.02):
            self._retreat = None
            return self._take(world)
        wide = gripper.half_opening(state.gripper_qpos) > 0.02
        return Motion(pose if wide else Pose(state.grip_pos, state.grip_mat), OPEN)

    # ── bring ──────────────────────────────────────────────────────────────────────────────────────────

    def _carry(self, world: World) -> Motion:
        self.phase = "carry"
        state = world.state
        if not self._carrying:
            self._progress, self._jams = (state.time_ns, np.inf), 0
        self._carrying = True
        if self._place is None:
            hand = (
                self._hold.pose(np.zeros(3), world.entity(self._name).mat).mat
                if self._hold
                else state.grip_mat
            )
            self._place = find_place(world, self.literal, _level(hand, state.grip_mat), self._arm)
        goal = self._place.grip(world, self._name)
        distance, angle = goal.error(state)
        if self._stalled(state.time_ns, distance + 0.1 * angle):
            # Something is in the way: think again from here, then let go here.
            self._jams += 1
            self._place, self._progress = None, (state.time_ns, np.inf)
        aside = float(np.linalg.norm((goal.pos - state.grip_pos)[:2]))
        arrived = aside < 0.006 and distance < 0.012 and angle < 0.08
        if arrived or self._jams > 1:
            self._releasing, self._since_ns = True, state.time_ns
            return self._let_go(world, True)  # type: ignore[return-value]
        load = world.points(self._name) - state.grip_pos
        others = world.others(self._name)
        over = clearance(state.grip_pos, goal.pos, others, load)
        return Motion(approach(goal, state, over, self._arm), CLOSE)

    def _stalled(self, now_ns: int, error: float) -> bool:
        """Whether the error (m) has not become smaller for a while."""
        since_ns, least = self._progress
        if error < least - 0.004:
            self._progress = (now_ns, error)
            return False
        return now_ns - since_ns > 1.5e9

    def _let_go(self, world: World, held: bool) -> Motion | None:
        self.phase = "release"
        state = world.state
        elapsed = state.time_ns - self._since_ns
        opened = gripper.half_opening(state.gripper_qpos) > 0.036 or elapsed > 0.8e9
        if not opened:
            return Motion(Pose(state.grip_pos, state.grip_mat), OPEN)
        up = Pose(state.grip_pos + 0.03 * UP, state.grip_mat)
        if elapsed > 1.4e9:
            self._forget()
            return None
        return Motion(up, OPEN)


def _level(hand: Array, now: Array) -> Array:
    """The orientation of the hand at the grasp, whatever it has slipped to since."""
    return hand if np.trace(hand.T @ now) > 2.5 else now
