"""Where to hold a thing, from its shape and the free space around it.

A candidate is a slab between the pads: at an orientation of the hand, each stretch of the body that fits
between the fingers along the closing direction. What touches the open hand on its way in is dropped; the
rest is ordered by a cost in metres.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_bench.policy.scripted import gripper
from vla_bench.policy.scripted.arm import Arm
from vla_bench.policy.scripted.geometry import UP, rotation, unit
from vla_bench.policy.scripted.motion import Pose
from vla_bench.types import Array

Mask = NDArray[np.bool_]

_GAP = 0.014  # stretches that are nearer to each other than a finger tip is thick count as one
_HARD, _SOFT = (0.003, 0.0), 0.005  # air (m) around the hand that must be free, at a pinch, and that should
_REACH = 0.10  # length (m) of the straight piece before a tilted grasp; from above, the way is longer
_REACH_DOWN = 0.25


@dataclass(frozen=True, slots=True)
class Grasp:
    """A pose of the open hand around a body, and how costly it is (m)."""

    pose: Pose
    cost: float


def upright_frames(home: Array, count: int = 16, span: float = np.pi) -> list[Array]:
    """Orientations that approach from above, spread over `span` around `home`; the fingers are alike."""
    x = unit(np.array([home[0, 0], home[1, 0], 0.0]))
    level = np.stack([x, np.cross(-UP, x), -UP], axis=1)
    turns = np.linspace(-span / 2, span / 2, count, endpoint=False)
    return [rotation(UP, turn) @ level for turn in sorted(turns, key=abs)]


def tilted_frames(heading: Array, tilts: Sequence[float]) -> list[Array]:
    """Orientations that approach along `heading` (horizontal), from above by `tilts` (rad, 0 = level).

    Each comes with the fingers beside and above each other.
    """
    frames = []
    for tilt in tilts:
        z = np.cos(tilt) * heading - np.sin(tilt) * UP
        side = unit(np.cross(UP, heading))
        for x in (np.cross(side, z), side):
            frames += [np.stack([x, np.cross(z, x), z], axis=1), np.stack([-x, np.cross(z, -x), z], axis=1)]
    return frames


def grasps(body: Array, others: Array, floor: float, frames: Iterable[Array], arm: Arm) -> list[Grasp]:
    """All grasps of a body, best first.

    Args:
        body: (N, 3) points of what is to be held, in the world.
        others: (M, 3) points of everything else.
        floor: Height (m) of the surface that the hand must not touch.
        frames: Orientations of the hand to try.
        arm: Strained poses cost, and so does turning the wrist away from its rest.
    """
    centre = 0.5 * (body.min(axis=0) + body.max(axis=0))
    near = others[np.all(np.abs(others - centre) < np.ptp(body, axis=0) / 2 + 0.25, axis=1)]
    frames = list(frames)
    for air in _HARD:
        found = [grasp for mat in frames for grasp in _at(mat, body, near, centre, floor, arm, air)]
        if found:
            return sorted(found, key=lambda grasp: grasp.cost)
    return []


def _at(
    mat: Array, body: Array, others: Array, centre: Array, floor: float, arm: Arm, air: float
) -> list[Grasp]:
    points = (body - centre) @ mat
    places = _stretches(points)
    if not len(places):
        return []
    places = places[_above_floor(places[:, :3] @ mat.T + centre, mat, floor)]
    foreign = (others - centre) @ mat
    reach = _REACH_DOWN if mat[2, 2] < -0.95 else _REACH
    foreign = foreign[_sweeps_over(foreign, places, reach)]
    around = np.concatenate([points[_sweeps_over(points, places, reach)], foreign])
    places = places[~_encloses(places, foreign)]
    places = places[~_touches(places, around, reach, air)]
    if not len(places):
        return []
    cost = (
        np.linalg.norm(places[:, :2], axis=1)
        + 0.5 * places[:, 3]
        + 0.04 * (1.0 - np.minimum(places[:, 4] / 0.016, 1.0))
        + 0.04 * places[:, 5]
        + 0.02 * _touches(places, around, reach, _SOFT)
        + _posture_cost(mat, arm.home.mat)
    )
    poses = [Pose(place[:3] @ mat.T + centre, mat) for place in places]
    return [Grasp(pose, float(c) + arm.strain(pose)) for pose, c in zip(poses, cost, strict=True)]


def _posture_cost(mat: Array, home: Array) -> float:
    """Turning the wrist costs up to 15 mm at a right angle, and tilting the hand 40 mm."""
    tilt = np.arccos(np.clip(-mat[2, 2], -1.0, 1.0))
    turn = np.arccos(np.clip(mat[:, 0] @ home[:, 0], -1.0, 1.0))
    return 0.015 * turn / (np.pi / 2) + 0.04 * tilt / (np.pi / 2)


def _stretches(points: Array) -> Array:
    """(K, 6) places where a stretch fits: x, y, z of the grip, width, engaged height, eccentricity.

    Args:
        points: (N, 3) points of the body in the directions of the grip frame, about its centre.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    ys = _spread(low[1], high[1], 0.010)
    zs = low[2] + np.array([0.003, 0.009, 0.016, 0.024, 0.032, 0.045, 0.06, 0.08])
    rows = []
    for y in ys:
        lane = points[np.abs(points[:, 1] - y) < gripper.PAD_Y]
        for z in zs:
            slab = lane[(lane[:, 2] > z + gripper.PAD_Z[0]) & (lane[:, 2] < z + gripper.TIP_Z)]
            if z < high[2] + 0.004 and len(slab) > 3:
                rows += [
                    (x, y, z, *rest)
                    for x, *rest in _split(slab, y, z)
                    if rest[0] < 2 * gripper.HALF_OPENING - 0.006
                ]
    return np.array(rows).reshape(-1, 6)


def _spread(low: float, high: float, spacing: float) -> Array:
    """Positions at most `spacing` apart between two ends, symmetric about the middle."""
    inner = max(0.0, (high - low) / 2 - 0.004)
    count = 2 * int(np.ceil(inner / spacing)) + 1
    return (low + high) / 2 + np.linspace(-inner, inner, count)


def _split(slab: Array, y: float, z: float) -> list[tuple[float, float, float, float]]:
    """(middle, width, engaged height, eccentricity) of each stretch along x that stands apart.

    The engaged height is what lies between the pads at all, and what of it touches them, on the average. The
    eccentricity is how far from the pads' middle they touch, 0 … 1: a wall that is gripped askew, or a round
    one gripped along its rim, touches the pads' edges and slips.
    """
    order = slab[np.argsort(slab[:, 0])]
    cuts = np.flatnonzero(np.diff(order[:, 0]) > _GAP) + 1
    stretches = []
    for part in np.split(order, cuts):
        left, right = part[0, 0], part[-1, 0]
        faces = [part[part[:, 0] < left + 0.004], part[part[:, 0] > right - 0.004]]
        between = np.clip(np.array([part[:, 2].min(), part[:, 2].max()]) - z, *gripper.PAD_Z)
        engaged = 0.5 * float(np.ptp(between) + min(np.ptp(face[:, 2]) for face in faces))
        off = max(abs(float(face[:, 1].mean()) - y) for face in faces) / gripper.PAD_Y
        stretches.append(((left + right) / 2, right - left, engaged, off))
    return stretches


def _above_floor(pos: Array, mat: Array, floor: float) -> Mask:
    """(K,) whether the tips of the open hand stay above the floor."""
    low, high = gripper.boxes(gripper.HALF_OPENING)
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    all_corners = (low + high)[:, None] / 2 + corners * (high - low)[:, None] / 2
    return pos[:, 2] + (all_corners.reshape(-1, 3) @ mat.T)[:, 2].min() > floor + 0.002


def _sweeps_over(points: Array, places: Array, reach: float) -> Mask:
    """(M,) points that any of the hands could touch at all."""
    low, high = gripper.boxes(gripper.HALF_OPENING, reach)
    if not len(places):
        return np.zeros(len(points), dtype=bool)
    low = low.min(axis=0) + places[:, :3].min(axis=0) - _SOFT
    high = high.max(axis=0) + places[:, :3].max(axis=0) + _SOFT
    return np.all((points > low) & (points < high), axis=1)


def _encloses(places: Array, points: Array) -> Mask:
    """(K,) whether any of the points would be caught between the closing fingers."""
    span = np.array([gripper.HALF_OPENING, 0.0105, 0.0])
    low, high = -span + (0.0, 0.0, -0.03), np.array([span[0], span[1], gripper.TIP_Z])
    return _any_inside(places, points, low, high)


def _touches(places: Array, points: Array, reach: float, margin: float) -> Mask:
    """(K,) whether the open hand, or the way it comes along, contains any of the points."""
    low, high = gripper.boxes(gripper.HALF_OPENING, reach)
    hit = np.zeros(len(places), dtype=bool)
    # The faces that look at the held stretch keep what the opening leaves; only outer faces have a margin.
    for number, (a, b) in enumerate(zip(low - margin, high + margin, strict=True)):
        if number < gripper.FINGER_BOXES:
            a[0], b[0] = (a[0] + margin, b[0]) if a[0] > 0 else (a[0], b[0] - margin)
        hit |= _any_inside(places, points, a, b)
    return hit


def _any_inside(places: Array, points: Array, low: Array, high: Array) -> Mask:
    """(K,) whether any of the points lies in a box that is carried to each place."""
    # One axis at a time on the points that are left keeps the broad product small.
    reach = np.all(
        (points > places[:, :3].min(axis=0, initial=np.inf) + low)
        & (points < places[:, :3].max(axis=0, initial=-np.inf) + high),
        axis=1,
    )
    near = points[reach].astype(np.float32)
    centre, half = ((low + high) / 2).astype(np.float32), ((high - low) / 2).astype(np.float32)
    inside = np.ones((len(places), len(near)), dtype=bool)
    for axis in range(3):
        offset = places[:, None, axis].astype(np.float32) + centre[axis] - near[None, :, axis]
        inside &= np.abs(offset) < half[axis]
    return np.any(inside, axis=1)
