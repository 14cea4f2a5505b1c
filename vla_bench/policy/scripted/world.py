"""The snapshot of the world as geometry: clouds of points by entity, heights, what surrounds what."""

from __future__ import annotations

import numpy as np

from vla_bench.policy.scripted.geometry import BoxCloud
from vla_bench.types import Array, Entity, WorldState

SPACING = 0.006
# What moves by itself does so at speeds (m/s) between these: less is noise, more is a fall or a blow.
_SLOWEST, _FASTEST = 0.005, 0.25


class Clouds:
    """Points of the entities, sampled once an episode."""

    def __init__(self) -> None:
        self._clouds: dict[str, BoxCloud] = {}
        self._floor: float | None = None

    def of(self, entity: Entity) -> BoxCloud:
        """The cloud of an entity."""
        if entity.name not in self._clouds:
            self._clouds[entity.name] = BoxCloud(entity.boxes.half, SPACING)
        return self._clouds[entity.name]

    def floor(self, state: WorldState) -> float:
        """Height of the workspace's surface: the lowest point of what can be moved, when first seen."""
        if self._floor is None:
            solid = [e for e in state.entities.values() if len(e.boxes.pos)]
            movable = [e for e in solid if e.movable] or solid
            self._floor = float(min(e.boxes.corners()[..., 2].min() for e in movable))
        return self._floor


class World:
    """One snapshot, with points computed when asked for.

    Args:
        state: The world now.
        clouds: Points of the entities.
        before: The world one period ago, from which velocities follow; None: nothing moves.
    """

    def __init__(self, state: WorldState, clouds: Clouds, before: WorldState | None = None) -> None:
        self.state, self._clouds = state, clouds
        self._before = None if before is None or before.time_ns >= state.time_ns else before
        self._points: dict[str, Array] = {}
        self.floor = clouds.floor(state)

    def entity(self, name: str) -> Entity:
        """The entity called `name`."""
        return self.state.entities[name]

    def moves(self, name: str) -> bool:
        """Whether an entity moves steadily, as on a belt or a turntable."""
        if self._before is None:
            return False
        shift = self.entity(name).pos - self._before.entities[name].pos
        period_s = (self.state.time_ns - self._before.time_ns) * 1e-9
        return bool(_SLOWEST < np.linalg.norm(shift) / period_s < _FASTEST)

    def ahead(self, name: str) -> tuple[Array, Array]:
        """Position and orientation of an entity's body one period from now, if it goes on as it did."""
        now = self.entity(name)
        if self._before is None or not self.moves(name):
            return now.pos, now.mat
        before = self._before.entities[name]
        return 2.0 * now.pos - before.pos, now.mat @ before.mat.T @ now.mat

    def points(self, name: str) -> Array:
        """(N, 3) surface points of an entity in the world."""
        if name not in self._points:
            entity = self.state.entities[name]
            self._points[name] = self._clouds.of(entity).at(entity.boxes)
        return self._points[name]

    def link_points(self, name: str, link: str) -> Array:
        """(N, 3) surface points of one link of an entity."""
        entity = self.state.entities[name]
        on_link = np.array([other == link for other in entity.boxes.link])
        return self.points(name)[on_link[self._clouds.of(entity).box]]

    def rest_points(self, name: str, link: str) -> Array:
        """(N, 3) surface points of everything but one link of an entity."""
        entity = self.state.entities[name]
        off_link = np.array([other != link for other in entity.boxes.link])
        return np.concatenate([self.others(name), self.points(name)[off_link[self._clouds.of(entity).box]]])

    def others(self, *names: str) -> Array:
        """(M, 3) points of all entities but those named."""
        parts = [self.points(other) for other in self.state.entities if other not in names]
        return np.concatenate(parts) if parts else np.zeros((0, 3))

    def in_grip(self, points: Array) -> Array:
        """Points of the world in the grip frame."""
        return (points - self.state.grip_pos) @ self.state.grip_mat
