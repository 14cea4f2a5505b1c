"""From a pose that is wanted to the next action, and how to get there without touching anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from vla_bench.policy.scripted import gripper
from vla_bench.policy.scripted.geometry import angle_between, rotation_vector
from vla_bench.types import Array, WorldState

# What an action of 1 asks for (m, rad); see `types.ActionChunk`.
STEP_M, STEP_RAD = 0.05, 0.5
OPEN, CLOSE = -1.0, 1.0


@dataclass(frozen=True, slots=True)
class Pose:
    """A pose of the grip frame in the world."""

    pos: Array
    mat: Array

    def error(self, state: WorldState) -> tuple[float, float]:
        """Distance (m) and angle (rad) from the present grip pose."""
        return float(np.linalg.norm(self.pos - state.grip_pos)), angle_between(state.grip_mat, self.mat)


@dataclass(frozen=True, slots=True)
class Motion:
    """What is wanted next.

    Attributes:
        pose: Where the grip frame shall go.
        grip: −1 opens, +1 closes.
        speed: Largest action in [0, 1].
        drift: (3,) how far (m) the pose moves by itself in a period; None: not at all.
    """

    pose: Pose
    grip: float
    speed: float = 1.0
    drift: Array | None = None


class Reach(Protocol):
    """What moving needs to know of the arm: see `arm.Arm`."""

    def stretch(self, pose: Pose) -> float:
        """Distance (m) of wrist and shoulder."""
        ...

    def lower(self, pose: Pose, radius: float = ...) -> Pose:
        """The nearest reachable pose below."""
        ...

    def draw_in(self, pose: Pose) -> Pose:
        """The nearest reachable pose at the same height."""
        ...

    def brake(self, pos: Array, aim: Array, mat: Array) -> Array:
        """Where to aim instead of `aim` with a long arm."""
        ...


def servo(motion: Motion, state: WorldState, arm: Reach, period_s: float, eagerness: float = 1.0) -> Array:
    """(7,) action that moves towards the wanted pose.

    The controller is a critically damped spring, τ = 1/12 s, that is re-aimed once a period: short periods
    bear twice the error, long ones a third more, without overshoot. That takes for granted that the arm is
    still where it was seen. An action that comes a whole period late is added to the one before it: it must
    ask for less than the error, or the arm swings; so it does with an `eagerness` below 1. What is small of
    the error must not be small of the drift, or the arm falls behind.
    """
    gain = eagerness * (1.2 + 0.8 * float(np.clip((0.2 - period_s) / 0.15, 0.0, 1.0)))
    drift = 0.0 if motion.drift is None else max(0.0, 1.0 - gain) * motion.drift
    shift = _shorten((gain * (motion.pose.pos - state.grip_pos) + drift) / STEP_M, motion.speed)
    turn = _shorten(gain * rotation_vector(motion.pose.mat @ state.grip_mat.T) / STEP_RAD, 0.6 * motion.speed)
    aim = arm.brake(state.grip_pos, state.grip_pos + STEP_M * shift, state.grip_mat)
    shift = _shorten((aim - state.grip_pos) / STEP_M, 1.0)
    return np.concatenate([shift, turn, [motion.grip]])


def _shorten(vector: Array, limit: float) -> Array:
    """Scale down to the largest component `limit`, keeping the direction."""
    return vector / max(1.0, float(np.abs(vector).max()) / limit)


def approach(goal: Pose, state: WorldState, clearance_z: float, arm: Reach, standoff: float = 0.10) -> Pose:
    """Next waypoint on a free way to `goal`: up, across, then along the approach direction, as in a funnel.

    Args:
        goal: Where to arrive; arrives along `goal.mat`'s z axis.
        state: Where things are now.
        clearance_z: Height (m) of the grip at which the way across is free.
        arm: Keeps waypoints within reach.
        standoff: Where (m before the goal) the last straight piece begins, if the arm reaches there.
    """
    along = goal.mat[:, 2]
    offset = state.grip_pos - goal.pos
    lateral = float(np.linalg.norm(offset - (offset @ along) * along))
    turn = angle_between(state.grip_mat, goal.mat)
    # Inside the funnel: the farther from the axis, the farther from the goal.
    back = float(np.clip(6.0 * (lateral - 0.006) + 0.5 * (turn - 0.08), 0.0, standoff))
    if lateral < 0.03 and -(offset @ along) < standoff + 0.05:
        return arm.lower(Pose(goal.pos - back * along, goal.mat), arm.stretch(goal) + 1e-3)
    gate = arm.lower(Pose(goal.pos - standoff * along, goal.mat)).pos
    across = (gate - state.grip_pos)[:2]
    if np.linalg.norm(across) < 0.03:
        return Pose(gate, goal.mat)
    height = max(clearance_z, float(gate[2]))
    lifted = np.clip((state.grip_pos[2] - (height - 0.05)) / 0.04, 0.0, 1.0)
    if lifted == 0.0:
        up = arm.draw_in(Pose(np.array([*state.grip_pos[:2], height]), state.grip_mat))
        if up.pos[2] - state.grip_pos[2] > 0.01:
            return up
    ahead = state.grip_pos[:2] + max(lifted, 0.2) * across
    return arm.lower(Pose(np.array([*ahead, height]), goal.mat))


def clearance(start: Array, end: Array, obstacles: Array, body: Array, margin: float = 0.02) -> float:
    """Height of the grip at which hand and load pass over everything between two places.

    Args:
        start: (3,) position of the grip.
        end: (3,) position where it goes.
        obstacles: (M, 3) points in the world.
        body: (N, 3) points of the load relative to the grip, in the world's directions.
        margin: Air (m) between.
    """
    tips = min(-gripper.TIP_Z, float(body[:, 2].min(initial=0.0)))
    reach = float(np.sqrt((body[:, :2] ** 2).sum(axis=1).max(initial=0.0)))
    distance = _distance_to_segment(obstacles[:, :2], start[:2], end[:2])
    heights = [float(end[2])]
    for radius, low in ((0.05, -gripper.TIP_Z), (0.11, -gripper.PALM_Z), (reach, tips)):
        near = distance < radius + 0.01
        if near.any():
            heights.append(float(obstacles[near, 2].max()) - low + margin)
    return max(heights)


def _distance_to_segment(points: Array, a: Array, b: Array) -> Array:
    """(N,) distances of points in the plane from the segment a b."""
    d = b - a
    x, y = points[:, 0] - a[0], points[:, 1] - a[1]
    t = np.clip((x * d[0] + y * d[1]) / max(float(d @ d), 1e-12), 0.0, 1.0)
    return np.hypot(x - t * d[0], y - t * d[1])
