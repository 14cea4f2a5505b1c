"""Skill: open, close, turn on, turn off: move a joint by pushing its link or by holding it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_bench.policy.scripted import gripper
from vla_bench.policy.scripted.arm import Arm
from vla_bench.policy.scripted.geometry import angle_between, unit
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
from vla_bench.policy.scripted.pushing import pushes
from vla_bench.policy.scripted.skill import Skill
from vla_bench.policy.scripted.world import World
from vla_bench.types import Array, JointState, Predicate

_PATIENCE_S = 5.0  # time after which an approach has failed
_BLOCKED_S = 2.0  # time without motion of the joint after which a contact has failed
_AHEAD_M, _AHEAD_RAD = 0.05, 0.5  # how far the hand leads the link
_TILTS = tuple(np.pi / 180 * tilt for tilt in (0, 10, 15, 30, 45, 60))  # below the horizontal


@dataclass(frozen=True, slots=True)
class Contact:
    """A joint to move and a pose of the hand that is fixed to its link.

    Attributes:
        drive: The joint and where it shall go.
        grasp: The pose, at joint position `qpos`.
        grip: −1 arrives with open fingers and holds, +1 arrives with closed ones and pushes.
    """

    drive: Drive
    grasp: Pose
    qpos: float
    grip: float

    def pose(self, joint: JointState, ahead: float = 0.0) -> Pose:
        """Where it is for the present position of the joint, or `ahead` (rad or m) of it."""
        return moved(self.grasp, joint, joint.qpos - self.qpos + ahead)

    def lead(self, joint: JointState, sign: float) -> Pose:
        """Where the hand is sent, so that it draws the link behind it."""
        here = self.pose(joint)
        speed = float(np.linalg.norm(moved(here, joint, 1e-3).pos - here.pos)) / 1e-3
        longest = _AHEAD_RAD if joint.kind == "hinge" else _AHEAD_M
        return self.pose(joint, sign * min(_AHEAD_M / max(speed, 1e-3), longest))


class Actuating(Skill):
    """Takes hold of a link or leans on it, moves it along its joint, lets go; tries another contact if stuck.

    The literal is open, close, turnon or turnoff of a fixture, or of a region that moves with joints.
    """

    def __init__(self, literal: Predicate, arm: Arm) -> None:
        super().__init__(literal, arm)
        self._failed: list[Contact] = []
        self._finished = False

    # ── contact ────────────────────────────────────────────────────────────────────────────────────────

    def _begin(self, world: World) -> Motion | None:
        drive = drive_for(world.state, self.literal)
        if drive is None or self._satisfied(world):
            return None
        self._contact = self._choose(world, drive)
        return self._enter(self._approach, world)

    def _choose(self, world: World, drive: Drive) -> Contact:
        """The best contact that has not failed yet; when all have, the best once more."""
        joint = drive.state(world)
        found = [(grasp, OPEN) for grasp in _holds(world, drive, self._arm)]
        found += [(push, CLOSE) for push in pushes(world, drive, self._arm)]
        found.sort(key=lambda pair: pair[0].cost)
        contacts = [Contact(drive, grasp.pose, joint.qpos, grip) for grasp, grip in found]
        fresh = [c for c in contacts if not any(_alike(c, failed, joint) for failed in self._failed)]
        if not fresh:
            self._failed.clear()
        if fresh or contacts:
            return (fresh or contacts)[0]
        link = world.link_points(drive.entity, joint.link)
        middle = link[handle(link, joint)].mean(axis=0)
        return Contact(drive, Pose(middle, self._arm.home.mat), joint.qpos, OPEN)

    def _approach(self, world: World) -> Motion | None:
        state, contact = world.state, self._contact
        if self._satisfied(world):
            return None
        goal = contact.pose(contact.drive.state(world))
        distance, angle = goal.error(state)
        if distance < 0.008 and angle < 0.12:
            return self._enter(self._grip if contact.grip == OPEN else self._move, world)
        if self._stalled(world, distance + 0.1 * angle) or self._elapsed_s(world) > _PATIENCE_S:
            return self._give_up(world)
        over = clearance(state.grip_pos, goal.pos, world.others(), np.zeros((0, 3)))
        return Motion(approach(goal, state, over, self._arm), contact.grip)

    def _grip(self, world: World) -> Motion | None:
        if self._fingers_stand(world):
            return self._enter(self._move, world)
        return Motion(self._contact.pose(self._contact.drive.state(world)), CLOSE)

    # ── move ───────────────────────────────────────────────────────────────────────────────────────────

    def _move(self, world: World) -> Motion | None:
        drive = self._contact.drive
        joint, remaining = drive.state(world), drive.remaining(world)
        self._stalled(world, abs(remaining))
        if self._reached(world) and (self._still_s(world) > 0.3 or abs(remaining) < 0.02):
            self._finished = True
            return self._let_go(world)
        if self._still_s(world) > _BLOCKED_S:
            return self._give_up(world)
        return Motion(self._contact.lead(joint, float(np.sign(remaining))), CLOSE)

    def _reached(self, world: World) -> bool:
        """Whether the literal holds: as the goal says, else by the share of the range."""
        if self.literal in world.state.goal:
            return self._satisfied(world)
        drive = self._contact.drive
        return abs(drive.remaining(world)) < 0.1 * abs(float(np.ptp(drive.state(world).limits)))

    def _give_up(self, world: World) -> Motion | None:
        self._failed.append(self._contact)
        return self._let_go(world)

    def _let_go(self, world: World) -> Motion | None:
        state = world.state
        self._retreat_to = Pose(state.grip_pos - 0.08 * state.grip_mat[:, 2], state.grip_mat)
        return self._enter(self._retreat, world)

    def _retreat(self, world: World) -> Motion | None:
        if self._elapsed_s(world) > 2.0 or self._retreat_to.error(world.state)[0] < 0.02:
            return None if self._finished else self._begin(world)
        free = gripper.half_opening(world.state.gripper_qpos) > 0.015 or self._elapsed_s(world) > 0.4
        return Motion(self._retreat_to, OPEN) if free else self._open_here(world)


def _alike(a: Contact, b: Contact, joint: JointState) -> bool:
    """Whether two contacts are too near each other to count as different attempts."""
    one, other = a.pose(joint), b.pose(joint)
    near = np.linalg.norm(one.pos - other.pos) < 0.02 and angle_between(one.mat, other.mat) < 0.55
    return bool(a.grip == b.grip and near)


def _holds(world: World, drive: Drive, arm: Arm) -> list[Grasp]:
    """Grasps of the handle of a link; the cost counts reach and turn of the wrist at the end of the way."""
    joint = drive.state(world)
    link = world.link_points(drive.entity, joint.link)
    on_handle = handle(link, joint)
    body, rest = link[on_handle], world.rest_points(drive.entity, joint.link)
    sign = float(np.sign(away_end(joint) - rest_end(joint)))
    inward = unit(-direction(body.mean(axis=0)[None], joint, sign)[0] * (1.0, 1.0, 0.0))
    frames: list[Array] = upright_frames(arm.home.mat, 24, 2.0 * np.pi)
    if np.linalg.norm(inward) > 0.5 and not is_knob(link, joint):
        frames = frames + tilted_frames(inward, _TILTS)
    end = likely_end(drive.remaining(world), joint)
    turn = float(end * joint.axis[2]) if joint.kind == "hinge" else 0.0

    def cost(grasp: Grasp) -> float:
        return grasp.cost + arm.strain(moved(grasp.pose, joint, end)) + arm.twist(grasp.pose.mat, turn)

    found = grasps(body, np.concatenate([rest, link[~on_handle]]), world.floor, frames, arm)
    return [Grasp(grasp.pose, cost(grasp)) for grasp in found]
