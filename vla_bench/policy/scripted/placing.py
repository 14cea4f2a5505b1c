"""Where to let go of a thing so that a literal of the goal holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_bench.policy.scripted import gripper
from vla_bench.policy.scripted.arm import Arm
from vla_bench.policy.scripted.geometry import UP, HeightField, rotation
from vla_bench.policy.scripted.motion import Pose
from vla_bench.policy.scripted.world import World
from vla_bench.types import Array, Predicate

_DROP = 0.004  # height (m) above the support at which the fingers open
_CELL = 0.006
_APART = 0.015  # air (m) to what a thing has been taken out of


@dataclass(frozen=True, slots=True)
class Place:
    """Where a held thing shall be when the fingers open.

    Attributes:
        origin: (3,) of the thing's body.
        hand: Orientation of the grip.
        cost: In metres; smaller is better.
    """

    origin: Array
    hand: Array
    cost: float

    def grip(self, world: World, name: str) -> Pose:
        """Pose of the grip that puts the thing there, as it lies in the hand now."""
        state = world.state
        held = state.grip_mat.T @ (world.entity(name).pos - state.grip_pos)
        return Pose(self.origin - self.hand @ held, self.hand)


@dataclass(frozen=True, slots=True)
class Spots:
    """Where the origin of a thing may come down so that a literal holds.

    Attributes:
        middle: (2,) where the spots are counted from.
        shifts: (K, 2) from there, seen from above.
        cost: (K,) of each, in metres.
        heights: Lowest and highest (m) at which the literal holds for the thing at rest.
    """

    middle: Array
    shifts: Array
    cost: Array
    heights: tuple[float, float]

    def outside(self, heights: Array) -> Array:
        """(K,) how far (m) a thing at rest would be from satisfying the literal, times a lot."""
        low, high = self.heights
        return 10.0 * (np.maximum(low - heights, 0.0) + np.maximum(heights - high, 0.0))


def find_place(world: World, literal: Predicate, hand: Array, arm: Arm) -> Place:
    """The best place for the held thing that `literal` (in, on, near or outof) speaks of.

    Args:
        world: The thing is in the hand.
        literal: `in(thing, region)`, `outof(thing, region)`, `on(thing, region)`, `on(thing, thing)`
            or `near(thing, thing)`.
        hand: Orientation of the hand at release, up to turns about the vertical.
        arm: What is near the end of its reach costs.
    """
    name, target = literal.args
    around = {"outof": _beside, "near": _near}.get(literal.name)
    spots = _upon(world, literal) if around is None else around(world, name, target, arm)
    places = [
        _place(world, name, spots, rotation(UP, turn) @ hand, 0.02 * abs(turn))
        for turn in _turns(world, name, target)
    ]
    return min(places, key=lambda place: place.cost + arm.strain(place.grip(world, name)))


def _turns(world: World, name: str, target: str) -> list[float]:
    """Turns (rad) of the held thing about the vertical: a few, and those that bring edges in line."""
    state = world.state
    region = state.regions.get(target)
    onto = state.entities[target].mat if region is None else region.mat
    off = _heading(onto) - _heading(world.entity(name).mat)
    aligned = [(off + quarter * np.pi / 2 + np.pi) % (2 * np.pi) - np.pi for quarter in range(4)]
    return [turn for turn in [*np.radians([0, 30, -30, 60, -60, 90, -90]), *aligned] if abs(turn) < 2.0]


def _heading(mat: Array) -> float:
    """Direction (rad) of the most horizontal axis of a body."""
    axis = mat[:, int(np.argmin(np.abs(mat[2])))]
    return float(np.arctan2(axis[1], axis[0]))


def _place(world: World, name: str, spots: Spots, hand: Array, cost: float) -> Place:
    """The best place with one orientation of the hand: low, on a good spot, let go from a small height."""
    state, shifts = world.state, spots.shifts
    turned = hand @ state.grip_mat.T
    origin = world.entity(name).pos
    about = np.array([*spots.middle, origin[2]])
    load = (world.points(name) - origin) @ turned.T + about
    hand_points = _hand_points(state.gripper_qpos) @ hand.T + turned @ (state.grip_pos - origin) + about
    field = HeightField(world.others(name), world.floor, _CELL)
    lies = field.rest(load, shifts)
    clear = field.rest(hand_points, shifts) + 0.01
    release = np.maximum(lies + _DROP, clear)
    rest_z = origin[2] + lies
    costs = cost + (release - lies - _DROP) + (rest_z - rest_z.min()) + spots.cost + spots.outside(rest_z)
    best = int(np.argmin(costs))
    where = np.array([*(about[:2] + shifts[best]), origin[2] + release[best]])
    return Place(where, hand, float(costs[best]))


def _hand_points(qpos: Array) -> Array:
    """(N, 3) points of the hand in the grip frame, fingers as they are and a little wider."""
    low, high = gripper.boxes(min(gripper.half_opening(qpos) + 0.015, gripper.HALF_OPENING))
    parts = []
    for a, b in zip(low, high, strict=True):
        lines = [
            np.linspace(p, q, max(2, int((q - p) / _CELL) + 2)) for p, q in zip(a[:2], b[:2], strict=True)
        ]
        xy = np.stack(np.meshgrid(*lines), axis=-1).reshape(-1, 2)
        parts += [np.column_stack([xy, np.full(len(xy), z)]) for z in (a[2], b[2])]
    return np.concatenate(parts)


def _upon(world: World, literal: Predicate) -> Spots:
    """Spots for in and on: above the target, with air to its sides; the middle is best."""
    target = literal.args[1]
    region = world.state.regions.get(target)
    if region is None:
        return Spots(world.entity(target).pos[:2], np.zeros((1, 2)), np.zeros(1), (-np.inf, np.inf))
    extent = np.abs(region.mat) @ region.half
    free = np.maximum(extent[:2] - 0.012, 0.0)
    lines = [np.linspace(-f, f, 2 * min(9, int(np.ceil(f / 0.007))) + 1) for f in free]
    shifts = np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1).reshape(-1, 2)
    low, high = (
        (-extent[2] - 0.01, extent[2])
        if literal.name in ("in", "poured")
        else (extent[2] - 0.005, extent[2] + 0.10)
    )
    heights = (float(region.pos[2] + low), float(region.pos[2] + high))
    return Spots(region.pos[:2], shifts, 0.5 * np.linalg.norm(shifts, axis=1), heights)


def _beside(world: World, name: str, target: str, arm: Arm) -> Spots:
    """Spots for outof: on the floor around what carries the region; best where the hand is at rest."""
    region = world.state.regions[target]
    carrier = region.pos + region.half * [[1, 1, 0], [1, -1, 0], [-1, 1, 0], [-1, -1, 0]] @ region.mat.T
    if region.parent is not None:
        carrier = np.concatenate([carrier, world.points(region.parent)])
    return _rings(world, name, carrier - region.pos, region.pos, arm, (0.0, 0.03, 0.06, 0.10, 0.15, 0.20))


def _near(world: World, name: str, target: str, arm: Arm) -> Spots:
    """Spots for near: on the floor close around a thing; best where the hand is at rest."""
    middle = world.entity(target).pos
    return _rings(world, name, world.points(target) - middle, middle, arm, (0.0, 0.015, 0.03))


def _rings(
    world: World, name: str, avoided: Array, middle: Array, arm: Arm, gaps: tuple[float, ...]
) -> Spots:
    """Rings on the floor around `middle`, so far out that the load clears points (N, 3) relative to it."""
    load = world.points(name) - world.entity(name).pos
    nearest = _radius(avoided) + _radius(load) + _APART
    turns = np.linspace(-np.pi, np.pi, 24, endpoint=False)
    shifts = np.concatenate(
        [(nearest + gap) * np.column_stack([np.cos(turns), np.sin(turns)]) for gap in gaps]
    )
    away = np.linalg.norm(middle[:2] + shifts - arm.home.pos[:2], axis=1)
    return Spots(middle[:2], shifts, 0.5 * away, (-np.inf, world.floor - load[:, 2].min() + _APART))


def _radius(points: Array) -> float:
    """Largest horizontal distance (m) of points from the origin."""
    return float(np.hypot(points[:, 0], points[:, 1]).max())
