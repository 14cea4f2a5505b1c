"""Where things are and how they move: poses outside the training region, the robot's, moving targets."""

from __future__ import annotations

import dataclasses
import functools

import mujoco
import numpy as np

from vla_bench.axes import scenery
from vla_bench.axes.cell import Cell
from vla_bench.axes.placing import (
    clear_of_others,
    horizontal_radius,
    pose,
    scatter,
    shift,
    stand_at,
    touched_by_robot,
    turn,
)
from vla_bench.axes.shaping import scale_part
from vla_bench.axes.surface import ground
from vla_bench.bddl import Drive, Problem
from vla_bench.errors import PlacementError
from vla_bench.sim.edits import Blueprint, Edits
from vla_bench.sim.moving import Course
from vla_bench.sim.robot import JOINTS
from vla_bench.sim.simulation import MujocoSimulation
from vla_bench.types import Array

_TRAY = "tray"
_TRACKS = 40  # attempts, with shorter and shorter tracks, before the tray stands somewhere else
_CLEARANCE_M = 0.05  # of the fingers above the workspace, where the robot starts elsewhere


def object_position(cell: Cell) -> Edits:
    """Each movable object that the goal names starts outside the region it is trained in.

    It goes in a drawn direction to the edge of its region and `distance` metres beyond.
    """
    generator, steps = cell.retry(), {}
    for name in _loose(cell):
        angle = generator.uniform(0, 2 * np.pi)
        direction = np.array([np.cos(angle), np.sin(angle)])
        length = _to_edge(cell, name, direction) + cell.values["distance"]
        steps[name] = np.array([*(direction * length), 0.0])
        cell.drawn[name] = {"towards_deg": float(np.degrees(angle)), "moved_m": float(length)}

    def change(simulation: MujocoSimulation) -> None:
        for name, step in steps.items():
            shift(simulation, (name, *scenery.riders(cell.problem, name)), step)

    return Edits(start=(change,))


def object_orientation(cell: Cell) -> Edits:
    """Each movable object that the goal names starts turned beyond the range of yaw it is trained in."""
    generator, angles = cell.retry(), {}
    for name in _loose(cell):
        region = scenery.starting_region(cell.problem, cell.place, name)
        assert region is not None, "the factor needs a loose object"
        # LIBERO gives objects one orientation; ours a yaw within a range
        low, high = (min(region.yaw_rotation), max(region.yaw_rotation)) if cell.place.builtin else (0.0, 0.0)
        quat = pose(cell.nominal, name)[3:]
        now = 2 * np.arctan2(quat[3], quat[0]) if cell.place.builtin else 0.0
        beyond = np.radians(cell.values["angle"])
        aim = high + beyond if generator.random() < 0.5 else low - beyond
        angles[name] = float(aim - now)
        cell.drawn[name] = {"turned_deg": float(np.degrees(angles[name]))}

    def change(simulation: MujocoSimulation) -> None:
        for name, angle in angles.items():
            centre = pose(simulation, name)[:3].copy()
            turn(simulation, (name, *scenery.riders(cell.problem, name)), centre, angle)

    return Edits(start=(change,))


def robot_start(cell: Cell) -> Edits:
    """The arm starts with other joint angles: the largest change of a joint is `angle`."""
    direction = cell.retry().standard_normal(len(JOINTS))
    offsets = direction / np.abs(direction).max() * np.radians(cell.values["angle"])
    cell.drawn["offsets_deg"] = [float(a) for a in np.degrees(offsets)]

    def change(simulation: MujocoSimulation) -> None:
        model, data = simulation.model, simulation.data
        for name, offset in zip(JOINTS, offsets, strict=True):
            data.joint(name).qpos[0] += offset
            low, high = model.joint(name).range
            if not low < data.joint(name).qpos[0] < high:
                raise PlacementError(f"{name} is beyond its limit")
        mujoco.mj_kinematics(model, data)
        fingers = data.site("gripper0_grip_site").xpos[2]
        if fingers < cell.place.offset[2] + _CLEARANCE_M:
            raise PlacementError(f"the fingers are less than {_CLEARANCE_M} m above the {cell.place.fixture}")

    return Edits(start=(change,))


def table_height(cell: Cell) -> Edits:
    """The table and everything on it is higher or lower; robot and cameras stay."""
    step = cell.values["height"] * (1 if cell.retry().random() < 0.5 else -1)
    cell.drawn["raised_m"] = step

    def change(simulation: MujocoSimulation) -> None:
        model, scene = simulation.model, simulation.scene
        model.body_pos[model.body(scene.place.surface_body).id, 2] += step
        for name, item in scene.items.items():
            if item.movable:
                shift(simulation, (name,), np.array([0.0, 0.0, step]))
            else:
                model.body_pos[model.body(item.body).id, 2] += step

    return Edits(model=(change,))


# ── during the episode ─────────────────────────────────────────────────────────────────────────────────────


def moving_target(cell: Cell) -> Edits:
    """The object to be handled stands on a tray that runs to and fro.

    Its track goes through the place where the object would stand, if there is a free track of at least
    `travel_m[0]` metres; otherwise through another place.
    """
    name = scenery.bare(cell.problem, cell.place, scenery.handled(cell.problem))[0]
    carrier, speed = str(cell.option("carrier")), cell.values["speed"]
    generator, floor = cell.retry(), ground(cell.nominal, name)
    shortest, longest = cell.option("travel_m")
    travel = longest - (longest - shortest) * min(cell.attempt / _TRACKS, 1.0)
    behind, angle = float(travel * generator.random()), float(generator.uniform(-np.pi, np.pi))
    cell.drawn.update(object=name, speed_m_s=speed, travel_m=travel, along_deg=float(np.degrees(angle)))

    def add(problem: Problem) -> Problem:
        return dataclasses.replace(
            problem,
            fixtures={**problem.fixtures, _TRAY: carrier},
            lines={**problem.lines, _TRAY: 0},
        )

    widths = np.array([*[(horizontal_radius(cell.nominal, name) + 0.005) / cell.option("radius_m")] * 2, 1.0])
    blueprint = Blueprint(f"tray:{name}", (add,), ((_TRAY, functools.partial(scale_part, factors=widths)),))
    course = Course(Drive(f"{_TRAY}_slide", speed, (-behind, travel - behind)), 0.0)

    def start(simulation: MujocoSimulation) -> None:
        if cell.attempt > _TRACKS:
            ((x, y, _),) = scatter(simulation, [name], generator, cell.factor.options)
            pose(simulation, name)[:2] = x, y
        item = simulation.scene.items[_TRAY]
        body = simulation.model.body(item.body).id
        simulation.model.body_pos[body] = *pose(simulation, name)[:2], floor - item.bottom + 0.001
        simulation.model.body_quat[body] = np.cos(angle / 2), 0.0, 0.0, np.sin(angle / 2)
        stand_at(simulation, name, floor + 0.001 + item.top - item.bottom)
        along = np.array([np.cos(angle), np.sin(angle), 0.0])
        for position in (-behind, travel / 2 - behind, travel - behind, 0.0):
            simulation.data.joint(course.drive.joint).qpos[0] = position
            shift(simulation, (name,), along * position)
            clear_of_others(simulation, (_TRAY, name), near=("robot0_base",))
            shift(simulation, (name,), -along * position)

    def act(simulation: MujocoSimulation) -> None:
        joint = simulation.data.joint(course.drive.joint)
        joint.qpos[0], joint.qvel[0] = course.at(simulation.time_ns / 1e9)

    return Edits(blueprint, start=(start,), tick=(act,))


def relocation(cell: Cell) -> Edits:
    """Once during the episode, before the robot first touches it, the object to be handled is elsewhere.

    The instant is drawn. What happened is recorded: the time (`relocated_at_s`, None if it never happened)
    and the way, or the time at which the robot was there first (`touched_at_s`).
    """
    name = scenery.loose(cell.problem, cell.place, scenery.handled(cell.problem))[0]
    generator, options = cell.generator(), cell.factor.options
    due_s = float(generator.uniform(*options["after_s"]))
    first = generator.uniform(0, 2 * np.pi)
    directions = first + np.arange(12) * (2 * np.pi / 12)
    group = (name, *scenery.riders(cell.problem, name))
    cell.drawn.update(object=name, due_s=due_s, relocated_at_s=None, touched_at_s=None)

    def act(simulation: MujocoSimulation) -> None:
        time_s = simulation.time_ns / 1e9
        if cell.drawn["relocated_at_s"] is not None or cell.drawn["touched_at_s"] is not None:
            return
        if touched_by_robot(simulation, group):
            cell.drawn["touched_at_s"] = time_s
            return
        if time_s < due_s:
            return
        for angle in directions:
            step = np.array([np.cos(angle), np.sin(angle), 0.0]) * cell.values["distance"]
            if _goes_there(simulation, group, step):
                cell.drawn.update(relocated_at_s=time_s, moved_m=[float(step[0]), float(step[1])])
                return

    return Edits(tick=(act,))


def _goes_there(simulation: MujocoSimulation, group: tuple[str, ...], step: Array) -> bool:
    """Move a resting group if there is room; otherwise leave it where it is."""
    from vla_bench.axes.feasible import within_bounds

    data, before = simulation.data, simulation.data.qpos.copy()
    shift(simulation, group, step)
    try:
        mujoco.mj_forward(simulation.model, data)
        clear_of_others(simulation, group)
        possible = within_bounds(simulation, group[0])
    except PlacementError:
        possible = False
    if not possible:
        data.qpos[:] = before
        mujoco.mj_forward(simulation.model, data)
        return False
    for name in group:
        data.joint(f"{name}_joint0").qvel[:] = 0.0
    return True


def _loose(cell: Cell) -> tuple[str, ...]:
    return scenery.loose(cell.problem, cell.place, scenery.relevant(cell.problem))


def _to_edge(cell: Cell, name: str, direction: Array) -> float:
    """Way from where an object starts to the edge of its region, m; 0 if it starts outside."""
    region = scenery.starting_region(cell.problem, cell.place, name)
    assert region is not None, "the factor needs a loose object"
    x, y = pose(cell.nominal, name)[:2] - cell.place.offset[:2]
    for x0, y0, x1, y1 in region.ranges:
        if x0 <= x <= x1 and y0 <= y <= y1:
            ways = [
                ((high if d > 0 else low) - p) / d
                for p, d, low, high in ((x, direction[0], x0, x1), (y, direction[1], y0, y1))
                if abs(d) > 1e-9
            ]
            return float(min(ways))
    return 0.0
