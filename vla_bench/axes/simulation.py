"""A simulation that knows variations: the nominal one, and one for each scene that had to be compiled."""

from __future__ import annotations

import importlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from vla_bench.axes import requirements
from vla_bench.axes.cell import Cell
from vla_bench.axes.feasible import Nominal, check_start
from vla_bench.axes.variation import Variation, format_variation, parse
from vla_bench.errors import DataError, PlacementError, UnknownNameError
from vla_bench.seeding import Namespace
from vla_bench.sim.controller import Backend
from vla_bench.sim.edits import NO_EDITS, Blueprint, Edits
from vla_bench.sim.simulation import MujocoSimulation
from vla_bench.types import Array, CameraView, Episode, Observation, Simulation, Task

ATTEMPTS = 100
_COMPILED = (
    4  # scenes kept besides the nominal one; each has a physics model and, once drawn, a picture model
)


def build_simulation(
    task: Task, *, backend: Backend = "numba", namespace: Namespace = "eval"
) -> VariedSimulation:
    """Return the simulation of a task that can run any variation of it."""
    return VariedSimulation(task, backend=backend, namespace=namespace)


def open_simulation(task: Task, *, namespace: Namespace = "eval") -> Simulation:
    """Return what simulates a task: its engine, or plain MuJoCo, which can run any variation of it.

    Raises:
        DataError, UnknownNameError: There is no such engine.
        MissingCapabilityError: It does not run here.
    """
    if task.engine is None:
        return build_simulation(task, namespace=namespace)
    module_name, _, name = task.engine.adapter.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise DataError(task.source, f"engine module {module_name!r} does not exist") from error
    if not hasattr(module, name):
        known = [each for each in vars(module) if not each.startswith("_")]
        raise UnknownNameError("engine", name, known, where=f"{task.source}: {module_name}")
    return getattr(module, name)(task, namespace=namespace)


class VariedSimulation:
    """A task and its variations; see `types.Simulation` for the contract.

    An episode with a variation first becomes the same episode without, so that everything a factor does not
    touch is as it would have been. Then each factor draws from a generator of its own, keyed by the task,
    itself, the level and the episode; a draw that is not feasible is drawn again, and counted.

    Attributes:
        current: The simulation of the current episode.
        compilations: Number of physics models compiled so far.
    """

    def __init__(self, task: Task, *, backend: Backend = "numba", namespace: Namespace = "eval") -> None:
        self.task = task
        self._backend: Backend = backend
        self._namespace: Namespace = namespace
        self._nominal = MujocoSimulation(task, backend=backend, namespace=namespace)
        self._compiled: OrderedDict[Blueprint, MujocoSimulation] = OrderedDict()
        self.current = self._nominal
        self.compilations = 1
        self.action_size, self.cameras = self._nominal.action_size, self._nominal.cameras
        self._drawn: dict[str, Any] = {}
        self._checked: set[str] = set()

    def reset(self, episode: Episode) -> None:
        """Put the simulation into the initial state of `episode`, varied as it says.

        Raises:
            UnknownNameError, VariationError: The variation is not one, or does not apply to the task.
            PlacementError: No draw in 100 is feasible; names the factors.
        """
        variation = parse(episode.variation)
        start = replace(episode, variation="")
        self.current, self._drawn = self._nominal, {}
        if not variation:
            self._nominal.reset(start)
            return
        if episode.variation not in self._checked:
            requirements.check(episode.variation, self.task)
            self._checked.add(episode.variation)
        reason = ""
        for attempt in range(ATTEMPTS):
            self._nominal.reset(start)
            try:
                self._drawn = self._vary(variation, start, attempt)
            except PlacementError as error:
                reason = str(error)
                continue
            if attempt:
                self._drawn["redraws"] = attempt
            return
        self.current = self._nominal
        raise PlacementError(
            f"{episode.key}: {format_variation(variation)} has no feasible draw in {ATTEMPTS} attempts; "
            f"last: {reason}"
        )

    def _vary(self, variation: Variation, start: Episode, attempt: int) -> dict[str, Any]:
        """Draw and apply once, and return what was drawn; the nominal simulation stands at the start."""
        nominal = Nominal(self._nominal)
        edits, drawn = self._draw(variation, start, attempt)
        self.current = self._simulation(edits.blueprint)
        if self.current is not self._nominal:
            self.current.start_from(self._nominal)
        self.current.apply(edits)
        check_start(nominal, self.current)
        return drawn

    def _draw(self, variation: Variation, episode: Episode, attempt: int) -> tuple[Edits, dict[str, Any]]:
        edits, drawn = NO_EDITS, {}
        for factor, level in variation:
            cell = Cell(self._nominal, factor, level, episode, attempt, self._namespace)
            edits += factor.load()(cell)
            drawn[factor.id] = cell.drawn  # not a copy: what happens during the episode is added
        return edits, drawn

    def _simulation(self, blueprint: Blueprint) -> MujocoSimulation:
        if not blueprint.key:
            return self._nominal
        if blueprint not in self._compiled:
            self._compiled[blueprint] = MujocoSimulation(
                self.task, backend=self._backend, blueprint=blueprint, namespace=self._namespace
            )
            self.compilations += 1
            if len(self._compiled) > _COMPILED:
                self._compiled.popitem(last=False)[1].close()
        self._compiled.move_to_end(blueprint)
        return self._compiled[blueprint]

    def tick(self, command: Array | None) -> None:
        """Advance `task.tick_s`; see `types.Simulation`."""
        self.current.tick(command)

    def observe(self, views: Sequence[CameraView] = (), *, privileged: bool = False) -> Observation:
        """Return the observation of now; see `types.Simulation`."""
        return self.current.observe(views, privileged=privileged)

    @property
    def instruction(self) -> str:
        """What the policy is told in this episode."""
        return self.current.instruction

    @property
    def succeeded(self) -> bool:
        """Whether the goal of this episode held at the last tick."""
        return self.current.succeeded

    @property
    def score(self) -> float:
        """Partial credit in [0, 1]."""
        return self.current.score

    @property
    def stages(self) -> tuple[str, ...]:
        """Named stages that have been reached."""
        return self.current.stages

    @property
    def drawn(self) -> Mapping[str, Any]:
        """Factor id → values drawn for this episode; `redraws` counts infeasible draws."""
        return self._drawn

    def close(self) -> None:
        """Release memory and graphics."""
        for simulation in (self._nominal, *self._compiled.values()):
            simulation.close()
        self._compiled.clear()
        self.current = self._nominal
