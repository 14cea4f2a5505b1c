"""Where things are, told by other things: what is true of one and of no other.

Left, right, in front and behind are those of the picture that the first camera takes, as for a person beside
it; near and far are horizontal distances from the robot's base. A statement must be clearly true of what it
describes, by a centimetre beyond the other thing's extent; of what else it might describe, it must not even
be nearly true.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from vla_bench.axes.surface import bounds, items_geoms
from vla_bench.sim.simulation import MujocoSimulation
from vla_bench.types import Array

_CLEAR_M = 0.01  # beyond the other thing's extent
_ASLANT = 0.6  # a gap counts if it is at least that share of the gap across
_NEARER_M = 0.03  # by so much the nearest is nearer than the next

# relation → axis of the view (to the right, away from the camera) and sign
SIDES = {"left": (0, -1), "right": (0, 1), "front": (1, -1), "behind": (1, 1)}
DISTANCES = {"nearest": 1, "farthest": -1}


@dataclass(frozen=True, slots=True)
class Statement:
    """A relation to another thing, or to the robot where `anchor` is ""."""

    relation: str
    anchor: str = ""


@dataclass(frozen=True, slots=True)
class Survey:
    """What stands where, as the first camera sees it.

    Attributes:
        centre: Name → (2,) position: across the picture, and away from the camera; m.
        half: Name → (2,) half extents, m.
        reach: Name → horizontal distance from the robot's base, m.
        candidates: What a description might mean: everything that can be picked up.
    """

    centre: Mapping[str, Array]
    half: Mapping[str, Array]
    reach: Mapping[str, float]
    candidates: tuple[str, ...]

    def holds(self, statement: Statement, name: str, *, clearly: bool) -> bool:
        """Whether a statement is true of a thing, clearly or at all."""
        if statement.relation in DISTANCES:
            return self._ranks(statement.relation, name, _NEARER_M if clearly else -_NEARER_M)
        if name == statement.anchor:
            return False
        axis, sign = SIDES[statement.relation]
        offset = self.centre[name] - self.centre[statement.anchor]
        gaps = np.abs(offset) - self.half[statement.anchor]
        if sign * offset[axis] <= 0:
            return False
        if not clearly:
            return bool(gaps[axis] > -_CLEAR_M)
        return bool(gaps[axis] > _CLEAR_M and gaps[axis] >= _ASLANT * gaps[1 - axis])

    def describing(
        self, name: str, statements: Iterable[Statement], *, others: Iterable[str]
    ) -> list[tuple[Statement, ...]]:
        """The shortest descriptions of a thing; none where nothing that could be said tells it from others.

        Args:
            name: What is described.
            statements: What could be said; only what is clearly true is.
            others: What a description must not even nearly be true of, taken together.
        """
        true = [statement for statement in statements if self.holds(statement, name, clearly=True)]
        rest = [other for other in others if other != name]
        for length in range(1, len(true) + 1):
            found = [
                together
                for together in itertools.combinations(true, length)
                if not any(all(self.holds(s, other, clearly=False) for s in together) for other in rest)
            ]
            if found:
                return found
        return []

    def _ranks(self, relation: str, name: str, margin: float) -> bool:
        sign = DISTANCES[relation]
        others = [sign * self.reach[other] for other in self.candidates if other != name]
        return bool(others) and sign * self.reach[name] + margin < min(others)


def survey(simulation: MujocoSimulation) -> Survey:
    """Look at a simulation as it stands now."""
    data, place = simulation.data, simulation.scene.place
    camera = data.camera(simulation.task.cameras[0])
    axes = camera.xmat.reshape(3, 3)
    ahead = -axes[:2, 2] / np.linalg.norm(axes[:2, 2])
    scale = float((camera.xpos - place.offset) @ axes[:, 2])  # depth of the workspace's middle
    centre, half, reach = {}, {}, {}
    for name in simulation.scene.items:
        low, high = bounds(simulation, items_geoms(simulation, name))
        corners = np.array(list(itertools.product(*zip(low.min(axis=0), high.max(axis=0), strict=True))))
        seen = (corners - camera.xpos) @ axes
        # across as in the picture, where what is far away is small; in metres at the workspace's middle
        view = np.stack([scale * seen[:, 0] / -seen[:, 2], (corners - camera.xpos)[:, :2] @ ahead], axis=1)
        centre[name], half[name] = (view.max(axis=0) + view.min(axis=0)) / 2, np.ptp(view, axis=0) / 2
        reach[name] = float(np.linalg.norm(corners[:, :2].mean(axis=0) - place.robot_pos[:2]))
    movable = tuple(name for name, item in simulation.scene.items.items() if item.movable)
    return Survey(centre, half, reach, movable)
