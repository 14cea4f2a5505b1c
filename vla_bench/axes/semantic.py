"""What things mean: objects and receptacles never seen, concepts instead of names, rare verbs, swaps."""

from __future__ import annotations

import functools

import numpy as np

from vla_bench.axes import scenery
from vla_bench.axes.cell import Cell
from vla_bench.axes.language import other_prompt as targets_swapped
from vla_bench.axes.language import text
from vla_bench.axes.lexicon import lexicon
from vla_bench.axes.placing import pose, rest_quat, stand_at
from vla_bench.axes.surface import ground
from vla_bench.axes.texts import substitute
from vla_bench.sim.edits import Blueprint, Edits, replace_object
from vla_bench.sim.simulation import MujocoSimulation

_STEP_M, _FARTHEST_M = 0.002, 0.08

__all__ = ["targets_swapped", "text", "unseen_receptacle", "unseen_target"]


def unseen_target(cell: Cell) -> Edits:
    """Another kind of object stands where the object to be handled stood, and the instruction names it."""
    return _replace(cell, scenery.bare(cell.problem, cell.place, scenery.handled(cell.problem))[0])


def unseen_receptacle(cell: Cell) -> Edits:
    """Another kind of object stands where the receiver stood, and the instruction names it."""
    return _replace(cell, scenery.bare(cell.problem, cell.place, scenery.receivers(cell.problem))[0])


def _replace(cell: Cell, name: str) -> Edits:
    before = cell.problem.objects[name]
    after = substitute(cell.factor, before, cell.level)
    assert after is not None, "refused before"
    instruction = renamed(cell.task.instruction, before, after)
    assert instruction is not None, "refused before"
    cell.drawn.update(object=name, category=after, instruction=instruction)
    floor, yaw = ground(cell.nominal, name), _yaw(cell, name)
    # what is wider may need more room: it moves a little farther with every attempt
    step = np.zeros(3)
    if cell.attempt:
        angle, length = cell.retry().uniform(0, 2 * np.pi), min(_STEP_M * cell.attempt, _FARTHEST_M)
        step[:2] = length * np.cos(angle), length * np.sin(angle)
        cell.drawn["moved_m"] = [float(step[0]), float(step[1])]

    def change(simulation: MujocoSimulation) -> None:
        own = pose(simulation, name)
        own[:3] += step
        own[3:] = rest_quat(simulation, name)
        if simulation.scene.place.builtin:
            own[3:] = np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)
        stand_at(simulation, name, floor)

    change_problem = functools.partial(replace_object, name=name, category=after)
    return Edits(Blueprint(f"{name}:{after}", (change_problem,)), start=(change,), instruction=instruction)


def _yaw(cell: Cell, name: str) -> float:
    quat = pose(cell.nominal, name)[3:]
    return float(2 * np.arctan2(quat[3], quat[0]))


def renamed(instruction: str, before: str, after: str) -> str | None:
    """An instruction that names another category; None where the words for it are not known."""
    words = lexicon()
    old, new = words.noun_for(before, instruction), words.noun_of(after)
    if old is None or new is None:
        return None
    return instruction.replace(old, new, 1)
