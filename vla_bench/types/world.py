"""The state of a simulation, for policies that see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from vla_bench.types.arrays import Array


@dataclass(frozen=True, slots=True)
class Predicate:
    """One literal of a goal or of an initial state, for example on(bowl_1, plate_1)."""

    name: str
    args: tuple[str, ...]
    line: int | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return f"{self.name}({', '.join(self.args)})"


@dataclass(frozen=True, slots=True)
class Boxes:
    """Collision geometry of an entity as N oriented boxes in the world.

    Attributes:
        pos: (N, 3) centres.
        mat: (N, 3, 3) rotations.
        half: (N, 3) half sizes.
        link: Name of the body that carries each box.
    """

    pos: Array
    mat: Array
    half: Array
    link: tuple[str, ...]

    def corners(self) -> Array:
        """(N, 8, 3) corner points in the world."""
        signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=float)
        local = self.half[:, None, :] * signs
        return self.pos[:, None, :] + np.einsum("nij,nkj->nki", self.mat, local)


@dataclass(frozen=True, slots=True)
class JointState:
    """A hinge or slide of a fixture.

    Attributes:
        kind: `hinge` or `slide`.
        qpos: Position (rad or m).
        limits: (2,) lower and upper limit.
        anchor: (3,) point on the axis in the world.
        axis: (3,) unit direction in the world.
        link: Body that the joint moves.
    """

    kind: Literal["hinge", "slide"]
    qpos: float
    limits: tuple[float, float]
    anchor: Array
    axis: Array
    link: str


@dataclass(frozen=True, slots=True)
class Entity:
    """An object or fixture of the scene: pose of its root body, collision boxes, joints by name."""

    name: str
    category: str
    movable: bool
    pos: Array
    mat: Array
    boxes: Boxes
    joints: Mapping[str, JointState]


@dataclass(frozen=True, slots=True)
class RegionState:
    """A named box in the world: a zone of the table, or a part of an entity.

    Attributes:
        pos, mat, half: Centre, rotation and half sizes.
        parent: Entity that carries it, or None for a zone of the workspace.
        joints: Joints of the parent that move it.
    """

    name: str
    pos: Array
    mat: Array
    half: Array
    parent: str | None
    joints: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WorldState:
    """Snapshot of a simulation for privileged policies, copied at one instant.

    Attributes:
        time_ns: Simulated time.
        grip_pos, grip_mat: Pose of the point between the finger tips.
        gripper_qpos: (2,) finger positions.
        goal: The literals whose conjunction is success.
        satisfied: Whether each literal holds.
        entities, regions: By name.
    """

    time_ns: int
    grip_pos: Array
    grip_mat: Array
    gripper_qpos: Array
    goal: tuple[Predicate, ...]
    satisfied: tuple[bool, ...]
    entities: Mapping[str, Entity]
    regions: Mapping[str, RegionState]
