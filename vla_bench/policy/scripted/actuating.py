"""Skill: open, close, turn on, turn off: move a joint by pushing its link or by holding it."""

from __future__ import annotations

import numpy as np

from vla_bench.policy.scripted import gripper
from vla_bench.policy.scripted.arm import Arm
from vla_bench.policy.scripted.geometry import unit
from vla_bench.policy.scripted.grasps import Grasp, grasps, tilted_frames, upright_frames
from vla_bench.policy.scripted.joints import (
    Drive,
    away_end,
    direction,
    drive_for,
    handle,
    is_knob,
    likely_end,
    moved,
    rest_end,
)
from vla_bench.policy.scripted.motion import CLOSE, OPEN, Motion, Pose, approach, clearance
from vla_bench.policy.scripted.moving import Fingers
from vla_bench.policy.scripted.pushing import pushes
from vla_bench.policy.scripted.world import World
from vla_bench.types import Array, JointState, Predicate

_PATIENCE_S = 5.0
_AHEAD = 0.05  # way (m) by which the hand leads the link


class Contact:
    """A pose of the hand that is fixed to a link, given at one position of its joint."""

    def __init__(self, pose: Pose, qpos: float, grip: float) -> None:
        self._pose, self._qpos, self.grip = pose, qpos, grip

    def pose(self, joint: JointState, ahead: float = 0.0) -> Pose:
        """Where it is for the present position of the joint, or `ahead` (rad or m) of it."""
        return moved(self._pose, joint, joint.qpos - self._qpos + ahead)


class Actuating:
    """Takes hold of a link or leans on it, moves it along its joint, lets go.

    Args:
        literal: open, close, turnon or turnoff of a fixture or of a region that moves with joints.
        arm: Reach, and the orientation at rest.
    """

    def __init__(self, literal: Predicate, arm: Arm) -> None:
        self.literal, self._arm = literal, arm
        self._fingers = Fingers()
        self._failed: list[Contact] = []
        self._drive: Drive | None = None
        self._contact: Contact | None = None
        self._phase_since_ns = 0
        self._progress: tuple[int, float] = (0, np.inf)
        self._retreat: Pose | None = None
        self._finished = False
        self.phase = "start"

    def step(self, world: World) -> Motion | None:
        """What to do next; None when the joint is where it belongs and the hand is free."""
        state = world.state
        self._fingers.see(state.time_ns, gripper.half_opening(state.gripper_qpos))
        if self._retreat is not None:
            return self._back_off(world)
        if self._drive is None or self._contact is None:
            self._drive = drive_for(state, self.literal)
            if self._drive is None:
                return None
            self._contact = self._choose(world, self._drive)
            self._enter("approach", world)
        if self.phase == "approach":
            return self._reach(world)
        if self.phase == "grip":
            return self._grip(world)
        return self._move(world)

    def _enter(self, phase: str, world: World) -> None:
        self.phase, self._phase_since_ns = phase, world.state.time_ns
        self._progress = (world.state.time_ns, np.inf)

    def _elapsed_s(self, world: World) -> float:
        return (world.state.time_ns - self._phase_since_ns) * 1e-9

    # ── contact ────────────────────────────────────────────────────────────────────────────────────────

    def _choose(self, world: World, drive: Drive) -> Contact:
        """The best contact that has not failed yet."""
        joint = drive.state(world)
        holds = [(grasp, OPEN) for grasp in _holds(world, drive, self._arm)]
        leans = [(push, CLOSE) for push in pushes(world, drive, self._arm)]
        for grasp, grip in sorted(holds + leans, key=lambda found: found[0].cost):
            if not any(grip == c.grip and _alike(grasp.pose, c.pose(joint)) for c in self._failed):
                return Contact(grasp.pose, joint.qpos, grip)
        self._failed.clear()
        link = world.link_points(drive.entity, joint.link)
        return Contact(Pose(link[handle(link, joint)].mean(axis=0), self._arm.home.mat), joint.qpos, OPEN)

    def _reach(self, world: World) -> Motion:
        state = world.state
        assert self._contact is not None
        assert self._drive is not None
        goal = self._contact.pose(self._drive.state(world))
        distance, angle = goal.error(state)
        if distance < 0.008 and angle < 0.12:
            self._enter("grip" if self._contact.grip == OPEN else "move", world)
            return Motion(goal, CLOSE)
        if self._stalled(world, distance + 0.1 * angle) or self._elapsed_s(world) > _PATIENCE_S:
            return self._give_up(world)
        over = clearance(state.grip_pos, goal.pos, world.others(), np.zeros((0, 3)))
        return Motion(approach(goal, state, over, self._arm), self._contact.grip)

    def _stalled(self, world: World, error: float) -> bool:
        """Whether the error (m) has not become smaller for a while."""
        now, (since, least) = world.state.time_ns, self._progress
        if error < least - 0.004:
            self._progress = (now, error)
            return False
        return now - since > 1.5e9

    def _grip(self, world: World) -> Motion:
        assert self._contact is not None
        assert self._drive is not None
        if self._elapsed_s(world) > 0.3 and self._fingers.speed < 0.004:
            self._enter("move", world)
        return Motion(self._contact.pose(self._drive.state(world)), CLOSE)

    # ── move ───────────────────────────────────────────────────────────────────────────────────────────

    def _move(self, world: World) -> Motion | None:
        state = world.state
        assert self._contact is not None
        assert self._drive is not None
        joint, remaining = self._drive.state(world), self._drive.remaining(world)
        since_ns, least = self._progress
        if abs(remaining) < least - 0.003:
            self._progress = (state.time_ns, abs(remaining))
        stuck_s = (state.time_ns - since_ns) * 1e-9
        if self._holds_in(world) and (stuck_s > 0.3 or abs(remaining) < 0.02):
            self._finished = True
            return self._let_go(world)
        if stuck_s > 2.0:
            return self._give_up(world)
        here = self._contact.pose(joint)
        speed = float(np.linalg.norm(moved(here, joint, 1e-3).pos - here.pos)) / 1e-3
        step = min(_AHEAD / max(speed, 1e-3), 0.5 if joint.kind == "hinge" else _AHEAD)
        ahead = float(np.sign(remaining)) * step
        return Motion(self._contact.pose(joint, ahead), CLOSE)

    def _holds_in(self, world: World) -> bool:
        """Whether the literal holds: as the goal says, else by the share of the range."""
        state = world.state
        for literal, done in zip(state.goal, state.satisfied, strict=True):
            if literal == self.literal:
                return done
        joint = self._drive.state(world) if self._drive else None
        return joint is not None and abs(self._drive.remaining(world)) < 0.1 * abs(np.ptp(joint.limits))  # type: ignore[union-attr]

    def _give_up(self, world: World) -> Motion | None:
        if self._contact is not None:
            self._failed.append(self._contact)
        return self._let_go(world)

    def _let_go(self, world: World) -> Motion | None:
        state = world.state
        self._drive = self._contact = None
        self._retreat = Pose(state.grip_pos - 0.08 * state.grip_mat[:, 2], state.grip_mat)
        self._enter("retreat", world)
        return self._back_off(world)

    def _back_off(self, world: World) -> Motion | None:
        state = world.state
        assert self._retreat is not None
        if self._elapsed_s(world) > 2.0 or self._retreat.error(state)[0] < 0.02:
            self._retreat = None
            return None if self._finished else self.step(world)
        wide = gripper.half_opening(state.gripper_qpos) > 0.015 or self._elapsed_s(world) > 0.4
        return Motion(self._retreat if wide else Pose(state.grip_pos, state.grip_mat), OPEN)


def _alike(a: Pose, b: Pose) -> bool:
    """Whether two poses are too near each other to count as different attempts."""
    return bool(np.linalg.norm(a.pos - b.pos) < 0.02 and np.trace(a.mat.T @ b.mat) > 2.7)


def _holds(world: World, drive: Drive, arm: Arm) -> list[Grasp]:
    """Grasps of the handle of a link, the best first; far from a hinge is better."""
    joint = drive.state(world)
    link = world.link_points(drive.entity, joint.link)
    on_handle = handle(link, joint)
    grip_points = link[on_handle]
    centre = grip_points.mean(axis=0)
    sign = float(np.sign(away_end(joint) - rest_end(joint)))
    inward = unit(-direction(centre[None], joint, sign)[0] * (1.0, 1.0, 0.0))
    frames: list[Array] = upright_frames(arm.home.mat, 24, 2.0 * np.pi)
    if np.linalg.norm(inward) > 0.5 and not is_knob(link, joint):
        frames = frames + tilted_frames(inward, np.radians([0.0, 10.0, 15.0, 30.0, 45.0, 60.0]))
    others = np.concatenate([world.rest_points(drive.entity, joint.link), link[~on_handle]])
    found = grasps(grip_points, others, world.floor, frames, arm)
    end = likely_end(drive.remaining(world), joint)
    turn = float(end * joint.axis[2]) if joint.kind == "hinge" else 0.0
    costs = [
        grasp.cost + arm.strain(moved(grasp.pose, joint, end)) + arm.twist(grasp.pose.mat, turn)
        for grasp in found
    ]
    return [Grasp(grasp.pose, cost) for grasp, cost in zip(found, costs, strict=True)]
