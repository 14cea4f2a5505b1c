"""How things are built: size, proportions, mass and its centre, friction, damping of joints."""

from __future__ import annotations

import functools

import mujoco
import numpy as np

from vla_bench.axes import scenery
from vla_bench.axes.cell import Cell
from vla_bench.axes.placing import stand_at
from vla_bench.axes.shaping import distortion, scale_part
from vla_bench.axes.surface import ground
from vla_bench.sim.edits import Blueprint, Edits
from vla_bench.sim.mjcf import Part
from vla_bench.sim.predicates import collision_geoms, joint_names
from vla_bench.sim.simulation import MujocoSimulation
from vla_bench.types import Array

_EQUALLY_GOOD = 1.05


def size(cell: Cell) -> Edits:
    """The object to be handled is larger or smaller by `factor` in every direction; its mass follows."""
    factor = cell.values["factor"] ** (1 if cell.retry().random() < 0.5 else -1)
    return _reshape(cell, np.full(3, factor))


def proportions(cell: Cell) -> Edits:
    """The object to be handled is stretched along one of its axes, at constant volume.

    The axis is drawn from those along which its shape can be stretched best: round things stay round.
    """
    name = scenery.bare(cell.problem, cell.place, scenery.handled(cell.problem))[0]
    part = Part(cell.nominal.scene.items[name].category.path)
    shapes = np.full((3, 3), cell.values["factor"] ** -0.5)
    np.fill_diagonal(shapes, cell.values["factor"])
    distortions = [distortion(part, shape) for shape in shapes]
    best = [axis for axis in range(3) if distortions[axis] < min(distortions) * _EQUALLY_GOOD]
    return _reshape(cell, shapes[cell.retry().choice(best)])


def _reshape(cell: Cell, factors: Array) -> Edits:
    """Scale the first object that is handled and stands by itself; it stands where it stood."""
    name = scenery.bare(cell.problem, cell.place, scenery.handled(cell.problem))[0]
    floor = ground(cell.nominal, name)
    cell.drawn.update(object=name, factors=[float(f) for f in factors])

    def change(simulation: MujocoSimulation) -> None:
        stand_at(simulation, name, floor)
        _record_inertia(cell, simulation, name)

    key = f"scale:{name}:{','.join(f'{f:.4f}' for f in factors)}"
    part = functools.partial(scale_part, factors=factors)
    return Edits(Blueprint(key, parts=((name, part),)), start=(change,))


def mass(cell: Cell) -> Edits:
    """Each object to be handled is heavier or lighter by `factor`; inertia in proportion."""
    factor = cell.values["factor"] ** (1 if cell.generator().random() < 0.5 else -1)
    cell.drawn["factor"] = factor

    def change(simulation: MujocoSimulation) -> None:
        for name in scenery.handled(cell.problem):
            body = simulation.model.body(simulation.scene.items[name].body).id
            simulation.model.body_mass[body] *= factor
            simulation.model.body_inertia[body] *= factor
            _record_inertia(cell, simulation, name)

    return Edits(model=(change,))


def center_of_mass(cell: Cell) -> Edits:
    """The centre of mass of each object to be handled is nearer to one end of its longest axis.

    It moves by `share` of the half length; at 1 it would lie in the end itself.
    """
    sign = 1 if cell.generator().random() < 0.5 else -1

    def change(simulation: MujocoSimulation) -> None:
        model = simulation.model
        for name in scenery.handled(cell.problem):
            body = model.body(simulation.scene.items[name].body).id
            middle, half = _extent(simulation, name)
            axis = int(np.argmax(half))
            model.body_ipos[body, axis] += sign * cell.values["share"] * half[axis]
            cell.drawn[name] = {
                "moved_m": float(sign * cell.values["share"] * half[axis]),
                "axis": "xyz"[axis],
            }
            limit = middle[axis] + np.array([-1, 1]) * half[axis] * 0.95
            model.body_ipos[body, axis] = np.clip(model.body_ipos[body, axis], *limit)

    return Edits(model=(change,))


def friction(cell: Cell) -> Edits:
    """Everything is more slippery: all coefficients of friction are multiplied by `factor`.

    The contact takes the larger coefficient of two geoms, so changing the object alone would change nothing
    between it and the fingers' pads.
    """
    factor = cell.values["factor"]
    cell.drawn["factor"] = factor

    def change(simulation: MujocoSimulation) -> None:
        simulation.model.geom_friction[:] *= factor

    return Edits(model=(change,))


def joint_damping(cell: Cell) -> Edits:
    """The joints of the fixtures that the goal names are stiffer to move: damping and dry friction."""
    factor = cell.values["factor"]
    cell.drawn["factor"] = factor

    def change(simulation: MujocoSimulation) -> None:
        model = simulation.model
        for fixture in scenery.jointed(cell.problem):
            for joint in joint_names(model, fixture):
                dof = model.joint(joint).dofadr[0]
                model.dof_damping[dof] *= factor
                model.dof_frictionloss[dof] *= factor
                cell.drawn.setdefault("damping", {})[joint] = float(model.dof_damping[dof])

    return Edits(model=(change,))


def _record_inertia(cell: Cell, simulation: MujocoSimulation, name: str) -> None:
    body = simulation.model.body(simulation.scene.items[name].body)
    cell.drawn[name] = {
        "mass_kg": float(body.mass[0]),
        "inertia_kg_m2": [float(i) for i in body.inertia],
    }


def _extent(simulation: MujocoSimulation, name: str) -> tuple[Array, Array]:
    """Middle and half sizes of the box around an object's collision geoms, in its body's frame, m."""
    model, item = simulation.model, simulation.scene.items[name]
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    for g in np.flatnonzero(collision_geoms(model, item)):
        turn = np.zeros(9)
        mujoco.mju_quat2Mat(turn, model.geom_quat[g])
        mat = turn.reshape(3, 3)
        middle = model.geom_pos[g] + mat @ model.geom_aabb[g, :3]
        half = np.abs(mat) @ model.geom_aabb[g, 3:]
        low, high = np.minimum(low, middle - half), np.maximum(high, middle + half)
    return (low + high) / 2, (high - low) / 2
