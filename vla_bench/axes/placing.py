"""Putting objects somewhere else at the start of an episode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import mujoco
import numpy as np

from vla_bench.axes.feasible import sees
from vla_bench.axes.surface import Surface, bounds, items_geoms, lowest_point
from vla_bench.errors import PlacementError
from vla_bench.sim.rotations import draw_libero_rotation
from vla_bench.sim.simulation import MujocoSimulation
from vla_bench.types import Array

_GAP_M = 0.001  # above what an object is put down on
_TRIES = 400


def pose(simulation: MujocoSimulation, name: str) -> Array:
    """Position and quaternion (w, x, y, z) of a movable object: a (7,) view."""
    return simulation.data.joint(f"{name}_joint0").qpos


def shift(simulation: MujocoSimulation, names: Sequence[str], offset: Array) -> None:
    """Move objects by an offset in the world, m."""
    for name in names:
        pose(simulation, name)[:3] += offset


def turn(simulation: MujocoSimulation, names: Sequence[str], pivot: Array, angle_rad: float) -> None:
    """Turn objects about the vertical through `pivot`."""
    quat = np.array([np.cos(angle_rad / 2), 0.0, 0.0, np.sin(angle_rad / 2)])
    c, s = np.cos(angle_rad), np.sin(angle_rad)
    for name in names:
        own, turned = pose(simulation, name), np.zeros(4)
        dx, dy = own[:2] - pivot[:2]
        own[:2] = pivot[0] + c * dx - s * dy, pivot[1] + s * dx + c * dy
        mujoco.mju_mulQuat(turned, quat, own[3:].copy())
        own[3:] = turned


def stand_at(simulation: MujocoSimulation, name: str, height: float) -> None:
    """Lift or lower an object so that its lowest point is just above a height, m."""
    pose(simulation, name)[2] += height + _GAP_M - lowest_point(simulation, name)


def rest_quat(simulation: MujocoSimulation, name: str) -> Array:
    """How a category lies when it is placed: the middle of its range about each axis."""
    category = simulation.scene.items[name].category
    if simulation.scene.place.builtin:
        return np.array([1.0, 0.0, 0.0, 0.0])
    return draw_libero_rotation(category.rotation)(_Middle())


class _Middle:
    """A stream that draws the middle of every range."""

    def uniform(self, low: float, high: float, /) -> float:
        return (low + high) / 2

    def randn(self, n: int, /) -> Array:
        return np.zeros(n)

    def randint(self, high: int, /) -> int:
        return 0


def put_down(simulation: MujocoSimulation, name: str, x: float, y: float, yaw_rad: float) -> None:
    """Stand an object on the workspace's surface as its category lies.

    Raises:
        PlacementError: There is no surface.
    """
    height = Surface(simulation).height(x, y)
    if height is None:
        raise PlacementError(f"{name} at ({x:.2f}, {y:.2f}) is beside the {simulation.scene.place.fixture}")
    own = pose(simulation, name)
    own[:3] = x, y, height
    own[3:] = rest_quat(simulation, name)
    turn(simulation, [name], own[:3].copy(), yaw_rad)
    stand_at(simulation, name, height)


def scatter(
    simulation: MujocoSimulation,
    names: Sequence[str],
    generator: np.random.Generator,
    options: Mapping[str, Any],
) -> list[tuple[float, float, float]]:
    """Draw (x, y, yaw) for objects so that they keep clear of everything and of each other, in view.

    Args:
        simulation: Where; the poses of all other items are read.
        names: What is put down.
        generator: What is drawn from.
        options: `half_extent_m`, the half sizes of the rectangle around the workspace's origin, and
            `clearance_m`, the least gap between an object's horizontal radius and another's footprint.

    Raises:
        PlacementError: There is no room.
    """
    items, place = simulation.scene.items, simulation.scene.place
    half_x, half_y = options["half_extent_m"]
    for name in names:
        pose(simulation, name)[3:] = rest_quat(simulation, name)
    mujoco.mj_kinematics(simulation.model, simulation.data)
    low, high = bounds(simulation, items_geoms(simulation, *(name for name in items if name not in names)))
    low, high = low[:, :2], high[:, :2]
    found = []
    for name in names:
        radius = horizontal_radius(simulation, name)
        for _ in range(_TRIES):
            x = place.offset[0] + generator.uniform(-half_x, half_x)
            y = place.offset[1] + generator.uniform(-half_y, half_y)
            yaw = generator.uniform(-np.pi, np.pi)
            here = np.array([x, y])
            gaps = np.linalg.norm(np.clip(here, low, high) - here, axis=1) - radius
            if gaps.min() > options["clearance_m"] and sees(simulation, (x, y, place.offset[2])):
                break
        else:
            raise PlacementError(f"{simulation.task.id}: no room for {name}, a {items[name].category.name}")
        low, high = np.vstack([low, here - radius]), np.vstack([high, here + radius])
        found.append((x, y, yaw))
    return found


def horizontal_radius(simulation: MujocoSimulation, name: str) -> float:
    """Radius of the circle about an item's origin that holds its collision geoms, seen from above, m."""
    low, high = bounds(simulation, items_geoms(simulation, name))
    origin = simulation.data.body(simulation.scene.items[name].body).xpos
    return float(np.hypot(*np.maximum(np.abs(low - origin), np.abs(high - origin))[:, :2].T).max())


def _mask(simulation: MujocoSimulation, names: Sequence[str]) -> np.ndarray:
    """(ngeom,) bool: collision geoms of some items."""
    mask = np.zeros(simulation.model.ngeom, dtype=bool)
    mask[items_geoms(simulation, *names)] = True
    return mask


def touched_by_robot(simulation: MujocoSimulation, names: Sequence[str]) -> bool:
    """Whether the robot touches one of some items, in the contacts of the last physics step."""
    model = simulation.model
    robot = model.body_rootid[model.geom_bodyid] == model.body("robot0_base").id
    mine, pairs = _mask(simulation, names), simulation.data.contact.geom
    one, two = pairs[:, 0], pairs[:, 1]
    return bool(np.any((mine[one] & robot[two]) | (robot[one] & mine[two])))


def clear_of_others(simulation: MujocoSimulation, names: Sequence[str], near: Sequence[str] = ()) -> None:
    """Check that some items touch nothing but each other and the workspace, where they are now.

    Args:
        simulation: Positions are computed anew from its configuration.
        names: The items.
        near: Further bodies whose touch does not matter.

    Raises:
        PlacementError: They do; says what.
    """
    model, data, place = simulation.model, simulation.data, simulation.scene.place
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    mujoco.mj_collision(model, data)
    mine = _mask(simulation, names)
    free = [0, *(model.body(name).id for name in (place.surface_body, *near))]
    allowed = mine | np.isin(model.body_rootid[model.geom_bodyid], free)
    for one, two in data.contact.geom:
        other = two if mine[one] and not allowed[two] else one if mine[two] and not allowed[one] else None
        if other is not None:
            body = model.body(int(model.geom_bodyid[other])).name
            raise PlacementError(f"{' and '.join(names)} would touch {body}")
