"""Extents of things as they stand: the lowest point of an object, the height of the workspace at a point."""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import NDArray

from vla_bench.sim.predicates import collision_geoms
from vla_bench.sim.simulation import MujocoSimulation
from vla_bench.types import Array

# A collision geom whose top is this near to the workspace is part of its surface; variations
# raise and lower it by up to 6 cm.
_NEAR_M = 0.08
_GEOM = mujoco.mjtGeom


def bounds(simulation: MujocoSimulation, geoms: NDArray[np.intp]) -> tuple[Array, Array]:
    """Lower and upper corners, each (N, 3), of boxes along the world's axes around geoms."""
    model, data = simulation.model, simulation.data
    turns = data.geom_xmat[geoms].reshape(-1, 3, 3)
    centre = data.geom_xpos[geoms] + np.einsum("nij,nj->ni", turns, model.geom_aabb[geoms, :3])
    half = np.einsum("nij,nj->ni", np.abs(turns), model.geom_aabb[geoms, 3:])
    return centre - half, centre + half


def items_geoms(simulation: MujocoSimulation, *names: str) -> NDArray[np.intp]:
    """Indices of the collision geoms of some items."""
    model, items = simulation.model, simulation.scene.items
    mask = np.zeros(model.ngeom, dtype=bool)
    for name in names:
        mask |= collision_geoms(model, items[name])
    return np.flatnonzero(mask)


def lowest_point(simulation: MujocoSimulation, name: str) -> float:
    """Height of the lowest point of an item's collision geoms in its present configuration, m."""
    mujoco.mj_kinematics(simulation.model, simulation.data)
    return min(_lowest(simulation.model, simulation.data, g) for g in items_geoms(simulation, name))


def _lowest(model: mujoco.MjModel, data: mujoco.MjData, geom: int) -> float:
    """Exact for the shapes that objects are made of; for meshes, of the box around them."""
    centre, down, size = data.geom_xpos[geom][2], data.geom_xmat[geom][6:], model.geom_size[geom]
    kind = model.geom_type[geom]
    if kind == _GEOM.mjGEOM_SPHERE:
        return float(centre - size[0])
    if kind == _GEOM.mjGEOM_CAPSULE:
        return float(centre - abs(down[2]) * size[1] - size[0])
    if kind == _GEOM.mjGEOM_CYLINDER:
        return float(centre - abs(down[2]) * size[1] - np.hypot(down[0], down[1]) * size[0])
    if kind == _GEOM.mjGEOM_ELLIPSOID:
        return float(centre - np.linalg.norm(down * size))
    box = model.geom_aabb[geom]
    return float(centre + down @ box[:3] - np.abs(down) @ box[3:])


class Surface:
    """Where a workspace can carry something, in the simulation's present configuration."""

    def __init__(self, simulation: MujocoSimulation) -> None:
        model, place = simulation.model, simulation.scene.place
        root = model.body(place.surface_body).id
        fixed = (0, root)  # arenas fix some floors to the world
        mine = np.isin(model.body_rootid[model.geom_bodyid], fixed) & (model.geom_contype != 0)
        geoms = np.flatnonzero(mine)
        plane = model.geom_type[geoms] == _GEOM.mjGEOM_PLANE
        low, high = bounds(simulation, geoms)
        high[plane, 2] = simulation.data.geom_xpos[geoms[plane], 2]
        low[plane, :2], high[plane, :2] = -np.inf, np.inf
        near = np.abs(high[:, 2] - place.offset[2]) < _NEAR_M
        self._low, self._high = low[near, :2], high[near, :2]
        self._tops = high[near, 2]

    def height(self, x: float, y: float) -> float | None:
        """Height of the surface at a point, m; None beside it."""
        here = np.array([x, y])
        tops = self._tops[np.all((self._low < here) & (here < self._high), axis=1)]
        return float(tops.max()) if len(tops) else None


def ground(simulation: MujocoSimulation, name: str) -> float:
    """Height of what an object stands on, m: its lowest point, or the surface where it starts sunk into that.

    Objects of LIBERO's floor scenes start up to 2 cm in the floor, and the first physics steps push them out.
    """
    x, y, _ = simulation.data.body(simulation.scene.items[name].body).xpos
    low, surface = lowest_point(simulation, name), Surface(simulation).height(x, y)
    return low if surface is None else max(low, surface)
