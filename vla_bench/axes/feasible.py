"""Whether a varied start can be played: nothing stuck, nothing off the surface, the target in view and reach.

Only what the variation made worse counts: scenes that start with touching objects stay allowed to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import mujoco
import numpy as np

from vla_bench.axes.surface import Surface
from vla_bench.errors import PlacementError
from vla_bench.sim.predicates import collision_geoms
from vla_bench.sim.simulation import MujocoSimulation
from vla_bench.types import Array

_DEPTH_M = 0.002  # penetration beyond the nominal that counts as a collision
_MARGIN = 0.02  # share of the picture at its edge that does not count as in view
_REACH_M = (0.25, 0.80)  # horizontal distances from the robot's base at which it can grasp


class Nominal:
    """What the unvaried start is like."""

    def __init__(self, simulation: MujocoSimulation) -> None:
        self.depths = _depths(simulation)
        self.seen = _seen(simulation)
        self.reached = _reached(simulation)
        self.supported = _supported(simulation)
        self.satisfied = all(simulation.satisfied)


def check_start(nominal: Nominal, varied: MujocoSimulation) -> None:
    """Check that a varied start can be played.

    Raises:
        PlacementError: It cannot; says why.
    """
    for pair, depth in _depths(varied).items():
        if depth > nominal.depths.get(pair, 0.0) + _DEPTH_M:
            raise PlacementError(f"{' and '.join(sorted(pair))} penetrate by {depth * 1e3:.0f} mm")
    if all(varied.satisfied) and not nominal.satisfied:
        raise PlacementError("the goal holds at the start")
    camera, fixture = varied.task.cameras[0], varied.scene.place.fixture
    for before, now, what in (
        (nominal.seen, _seen(varied), f"is out of the view of {camera}"),
        (nominal.reached, _reached(varied), "is out of the robot's reach"),
        (nominal.supported, _supported(varied), f"is not above the {fixture}"),
    ):
        for name in sorted((before - now) & _named(varied)):
            raise PlacementError(f"{name} {what}")


def within_bounds(simulation: MujocoSimulation, name: str) -> bool:
    """Whether an object is within reach, above the workspace, and in view."""
    return all(name in names for names in (_seen(simulation), _reached(simulation), _supported(simulation)))


def _depths(simulation: MujocoSimulation) -> Mapping[frozenset[str], float]:
    """Deepest penetration of each pair of things, m; the surface and the robot are things too."""
    model, data = simulation.model, simulation.data
    owners = {}
    for name, item in simulation.scene.items.items():
        owners |= dict.fromkeys(np.flatnonzero(collision_geoms(model, item)).tolist(), name)
    found: dict[frozenset[str], float] = {}
    for contact in range(data.ncon):
        names = [owners.get(int(g)) or _root(model, int(g)) for g in data.contact.geom[contact]]
        if names[0] != names[1]:
            pair = frozenset(names)
            found[pair] = max(found.get(pair, 0.0), -float(data.contact.dist[contact]))
    return found


def _root(model: mujoco.MjModel, geom: int) -> str:
    return model.body(int(model.body_rootid[model.geom_bodyid[geom]])).name


def _seen(simulation: MujocoSimulation) -> set[str]:
    """Objects whose origin the first camera looks at."""
    return {name for name, pos in _positions(simulation).items() if sees(simulation, pos)}


def sees(simulation: MujocoSimulation, point: Sequence[float] | Array) -> bool:
    """Whether the task's first camera looks at a point, whatever stands in between."""
    camera = simulation.data.camera(simulation.task.cameras[0])
    fovy = float(np.radians(simulation.model.cam_fovy[camera.id]))
    aspect = simulation.task.observation_width_px / simulation.task.observation_height_px
    return in_view(point, camera.xpos, camera.xmat.reshape(3, 3), fovy, aspect)


def _named(simulation: MujocoSimulation) -> set[str]:
    """Objects that the goal of this episode names."""
    objects = simulation.scene.problem.objects
    return {arg for literal in simulation.goal for arg in literal.args if arg in objects}


def _positions(simulation: MujocoSimulation) -> dict[str, Array]:
    items = simulation.scene.items
    return {n: simulation.data.body(i.body).xpos for n, i in items.items() if i.movable}


def _reached(simulation: MujocoSimulation) -> set[str]:
    """Objects that are neither too near to the robot nor too far from it."""
    base, (near, far) = np.array(simulation.scene.place.robot_pos[:2]), _REACH_M
    places = _positions(simulation)
    return {name for name, pos in places.items() if near <= np.hypot(*(pos[:2] - base)) <= far}


def _supported(simulation: MujocoSimulation) -> set[str]:
    """Objects whose origin is above the workspace's surface."""
    surface = Surface(simulation)
    places = _positions(simulation)
    return {name for name, pos in places.items() if surface.height(pos[0], pos[1]) is not None}


def in_view(point: Sequence[float] | Array, pos: Array, mat: Array, fovy_rad: float, aspect: float) -> bool:
    """Whether a camera at `pos`, looking along −z of `mat`, sees a point not too near its picture's edge."""
    x, y, z = mat.T @ (np.asarray(point) - pos)
    if z >= 0:
        return False
    half = np.tan(fovy_rad / 2) * (1 - 2 * _MARGIN)
    return bool(abs(y / z) < half and abs(x / z) < half * aspect)
