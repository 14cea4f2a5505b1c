"""What a variation does to a simulation, stage by stage: a value that `axes` makes and a simulation uses.

The stages keep apart what must be compiled (`Blueprint`) from what changes data of a compiled model, and what
is simulated from what is only seen: `canvas` and `lens` have no access to the physics, so no change of looks
can change what happens.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import mujoco
import numpy as np

from vla_bench.bddl import Problem
from vla_bench.sim.mjcf import Part
from vla_bench.types import Array, Image, Predicate

if TYPE_CHECKING:
    from vla_bench.sim.canvas import Canvas
    from vla_bench.sim.simulation import MujocoSimulation

World = Callable[["MujocoSimulation"], None]


@dataclass(frozen=True, slots=True)
class Blueprint:
    """What differs before the scene is compiled; equal keys are equal scenes.

    Attributes:
        key: Readable name of everything that it changes; "" is the scene of the task's file.
        problem: Changes of the problem, in order.
        parts: Changes of single objects' model files: (instance, change).
    """

    key: str = ""
    problem: tuple[Callable[[Problem], Problem], ...] = field(default=(), compare=False)
    parts: tuple[tuple[str, Callable[[Part], None]], ...] = field(default=(), compare=False)

    def of(self, problem: Problem) -> Problem:
        """The problem as this blueprint has it."""
        for change in self.problem:
            problem = change(problem)
        return problem

    def __add__(self, other: Blueprint) -> Blueprint:
        key = "+".join(part for part in (self.key, other.key) if part)
        return Blueprint(key, self.problem + other.problem, self.parts + other.parts)


@dataclass(frozen=True, slots=True)
class Edits:
    """Changes of one episode, in the order of the stages.

    Attributes:
        blueprint: What is compiled.
        model: Changes of the physics model's arrays (masses, friction, cameras); no compilation.
        start: Changes of the initial state, after it has been set and before anything moves.
        tick: Called before every tick.
        canvas: Changes of what is drawn (lights, materials, textures).
        lens: What happens to a finished picture of any camera: (picture, camera, time_ns) → picture.
        instruction: What the policy is told instead of the task's instruction; a function composes it from
            the start of the episode, after everything else has changed it.
        goal: What must hold instead of the problem's goal.
    """

    blueprint: Blueprint = Blueprint()
    model: tuple[World, ...] = ()
    start: tuple[World, ...] = ()
    tick: tuple[World, ...] = ()
    canvas: tuple[Callable[[Canvas], None], ...] = ()
    lens: tuple[Callable[[Image, str, int], Image], ...] = ()
    instruction: str | Callable[[MujocoSimulation], str] | None = None
    goal: tuple[Predicate, ...] | None = None

    def __add__(self, other: Edits) -> Edits:
        return Edits(
            blueprint=self.blueprint + other.blueprint,
            model=self.model + other.model,
            start=self.start + other.start,
            tick=self.tick + other.tick,
            canvas=self.canvas + other.canvas,
            lens=self.lens + other.lens,
            instruction=other.instruction if self.instruction is None else self.instruction,
            goal=other.goal if self.goal is None else self.goal,
        )


NO_EDITS = Edits()

# Assets and names: large, and nothing that changes data of a model touches them.
_FIXED = ("mesh_", "tex_", "hfield_", "bvh_", "oct_", "skin_", "flex_", "name", "text_", "tuple_", "path")


class ModelState:
    """A model's numbers as they are now, to be written back."""

    def __init__(self, model: mujoco.MjModel) -> None:
        self._model = model
        self._arrays = {name: value.copy() for name, value in model_arrays(model).items()}
        self._mean_inertia = model.stat.meaninertia

    def restore(self) -> None:
        """Write everything back, byte for byte."""
        for name, value in self._arrays.items():
            getattr(self._model, name)[...] = value
        self._model.stat.meaninertia = self._mean_inertia


def model_arrays(model: mujoco.MjModel) -> dict[str, Array]:
    """All arrays of a model by name, save assets and names; they are views."""
    names = [name for name in dir(model) if not name.startswith(("_", *_FIXED))]
    values = {name: getattr(model, name) for name in names}
    return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}


def set_constants(model: mujoco.MjModel) -> None:
    """Recompute what MuJoCo derives from masses and inertias, as compiling would; data is left alone."""
    mujoco.mj_setConst(model, mujoco.MjData(model))


def replace_object(problem: Problem, name: str, category: str) -> Problem:
    """The problem with another category of object under the same name."""
    return dataclasses.replace(problem, objects={**problem.objects, name: category})


def add_object(problem: Problem, name: str, category: str) -> Problem:
    """The problem with one more object, which nothing places."""
    return dataclasses.replace(
        problem, objects={**problem.objects, name: category}, lines={**problem.lines, name: 0}
    )
