"""Where to let go of a thing so that a literal of the goal holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_bench.policy.scripted import gripper
from vla_bench.policy.scripted.arm import Arm
from vla_bench.policy.scripted.geometry import UP, HeightField, rotation
from vla_bench.policy.scripted.motion import Pose
from vla_bench.policy.scripted.world import World
from vla_bench.types import Array, Predicate, RegionState

_DROP = 0.004  # height (m) above the support at which the fingers open
_CELL = 0.006


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


def find_place(world: World, literal: Predicate, hand: Array, arm: Arm) -> Place:
    """The best place for the held thing that `literal` (in or on) speaks of.

    Args:
        world: The thing is in the hand.
        literal: `in(thing, region)`, `on(thing, region)` or `on(thing, thing)`.
        hand: Orientation of the hand at release, up to turns about the vertical.
        arm: What is near the end of its reach costs.
    """
    name, target = literal.args
    places = [
        _place(world, literal, rotation(UP, turn) @ hand, 0.02 * abs(turn))
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


def _place(world: World, literal: Predicate, hand: Array, cost: float) -> Place:
    """The best place with one orientation of the hand: low, near the middle, let go from a small height."""
    state, (name, target) = world.state, literal.args
    region = state.regions.get(target)
    middle = state.entities[target].pos if region is None else region.pos
    shifts = _shifts(region)
    turned = hand @ state.grip_mat.T
    origin = world.entity(name).pos
    about = np.array([*middle[:2], origin[2]])
    load = (world.points(name) - origin) @ turned.T + about
    hand_points = _hand_points(state.gripper_qpos) @ hand.T + turned @ (state.grip_pos - origin) + about
    field = HeightField(world.others(name), world.floor, _CELL)
    lies = field.rest(load, shifts)
    clear = field.rest(hand_points, shifts) + 0.01
    release = np.maximum(lies + _DROP, clear)
    rest_z = origin[2] + lies
    costs = (
        cost
        + (release - lies - _DROP)
        + (rest_z - rest_z.min())
        + 0.5 * np.linalg.norm(shifts, axis=1)
        + _outside(region, literal.name, np.column_stack([about[:2] + shifts, rest_z]))
    )
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


def _shifts(region: RegionState | None) -> Array:
    """(K, 2) horizontal displacements from the middle of the target that the literal allows, with air."""
    if region is None:
        return np.zeros((1, 2))
    extent = np.abs(region.mat) @ region.half
    free = np.maximum(extent[:2] - 0.012, 0.0)
    lines = [np.linspace(-f, f, 2 * min(9, int(np.ceil(f / 0.007))) + 1) for f in free]
    return np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1).reshape(-1, 2)


def _outside(region: RegionState | None, kind: str, origins: Array) -> Array:
    """(K,) how far (m) a thing at rest would be from satisfying the literal, in height, times a lot."""
    if region is None:
        return np.zeros(len(origins))
    extent = np.abs(region.mat) @ region.half
    height = origins[:, 2] - region.pos[2]
    if kind == "in":
        low, high = -extent[2] - 0.01, extent[2]
    else:
        low, high = extent[2] - 0.005, extent[2] + 0.10
    return 10.0 * (np.maximum(low - height, 0.0) + np.maximum(height - high, 0.0))
