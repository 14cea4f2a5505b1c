"""Small worlds made of boxes, as a simulation would show them to a privileged policy."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from vla_bench.policy.scripted.arm import Arm
from vla_bench.types import Boxes, Entity, JointState, Predicate, RegionState, WorldState

REST_MAT = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])


def solid(name: str, boxes: Sequence[tuple[Sequence[float], Sequence[float]]], **more: object) -> Entity:
    """An entity of axis-aligned boxes, each (centre, half sizes)."""
    pos = np.array([centre for centre, _ in boxes], dtype=float)
    half = np.array([size for _, size in boxes], dtype=float)
    links = more.pop("links", (name,) * len(boxes))
    values: dict = {"movable": True, "joints": {}, **more}
    return Entity(
        name, name, pos=pos[0], mat=np.eye(3),
        boxes=Boxes(pos, np.tile(np.eye(3), (len(boxes), 1, 1)), half, links), **values,
    )  # fmt: skip


def world_state(
    *entities: Entity,
    goal: Sequence[Predicate] = (),
    satisfied: Sequence[bool] | None = None,
    regions: Sequence[RegionState] = (),
    grip: Sequence[float] = (0.0, 0.0, 0.3),
) -> WorldState:
    """A snapshot with the hand at rest above the origin."""
    return WorldState(
        time_ns=0,
        grip_pos=np.array(grip),
        grip_mat=REST_MAT.copy(),
        gripper_qpos=np.array([0.04, -0.04]),
        goal=tuple(goal),
        satisfied=tuple([False] * len(goal) if satisfied is None else satisfied),
        entities={entity.name: entity for entity in entities},
        regions={region.name: region for region in regions},
    )


def drawer_joint(qpos: float) -> JointState:
    """A drawer that opens 0.16 m along −y."""
    return JointState("slide", qpos, (-0.16, 0.01), np.zeros(3), np.array([0.0, 1.0, 0.0]), "drawer")


@pytest.fixture
def make_solid() -> Callable[..., Entity]:
    return solid


@pytest.fixture
def make_state() -> Callable[..., WorldState]:
    return world_state


@pytest.fixture
def make_drawer() -> Callable[[float], JointState]:
    return drawer_joint


@pytest.fixture
def arm() -> Arm:
    return Arm(world_state(solid("thing", [((0.0, 0.0, 0.02), (0.02, 0.02, 0.02))])))
