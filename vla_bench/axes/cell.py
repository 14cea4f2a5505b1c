"""What a factor's function is given: the task, the level's values, and generators of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vla_bench import seeding
from vla_bench.axes.factors import Factor
from vla_bench.bddl import Problem
from vla_bench.sim.simulation import MujocoSimulation
from vla_bench.sim.workspaces import Workspace
from vla_bench.types import Episode, Task


@dataclass(frozen=True)
class Cell:
    """One factor at one level in one episode.

    Attributes:
        nominal: The simulation of the unvaried task, just reset to the unvaried episode; to be read only.
        factor, level: How far.
        episode: Which draw.
        attempt: Number of draws that were infeasible before.
        namespace: Whose seeds are drawn.
        drawn: What was drawn, for the record; functions write JSON values into it, also during the episode.
    """

    nominal: MujocoSimulation
    factor: Factor
    level: int
    episode: Episode
    attempt: int = 0
    namespace: seeding.Namespace = "eval"
    drawn: dict[str, Any] = field(default_factory=dict)

    @property
    def task(self) -> Task:
        """What is varied."""
        return self.nominal.task

    @property
    def problem(self) -> Problem:
        """The task's problem."""
        return self.nominal.scene.problem

    @property
    def values(self) -> Mapping[str, float]:
        """What the level sets."""
        return self.factor.values(self.level)

    @property
    def place(self) -> Workspace:
        """Where the task happens."""
        return self.nominal.scene.place

    def option(self, name: str) -> Any:
        """A constant of the factor; a table may give one for built-in places and one for LIBERO's."""
        value = self.factor.options[name]
        if not isinstance(value, dict):
            return value
        return value["builtin" if self.place.builtin else "libero"]

    def generator(self, *purpose: str | int) -> np.random.Generator:
        """The generator of this cell: the same for every attempt.

        It depends on the task (or the scene that tasks share), the factor, the level and the episode's seed
        or initial state alone, so that two prompts of one scene are varied alike.
        """
        episode = self.episode
        start = f"seed{episode.seed}" if episode.init_state is None else f"init{episode.init_state}"
        key = (self.nominal.scene_id, self.factor.id, self.level, start, *purpose)
        return seeding.generator(self.namespace, "factor", *key)

    def retry(self) -> np.random.Generator:
        """The generator of this attempt, for what is drawn again where it does not fit."""
        return self.generator("attempt", self.attempt)
