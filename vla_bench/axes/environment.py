"""The Gymnasium environment of a task and its variations; `gymnasium.make` calls this."""

from __future__ import annotations

from typing import Any

from vla_bench import catalog
from vla_bench.axes import requirements
from vla_bench.axes.simulation import open_simulation
from vla_bench.axes.variation import canonical
from vla_bench.sim.env import TaskEnv
from vla_bench.types import Task


def make_env(task: Task | str, *, variation: str = "", **options: Any) -> TaskEnv:
    """Return the environment of a task under a variation; `options` are those of `TaskEnv`.

    Raises:
        UnknownNameError, VariationError: The variation is not one, or does not apply to the task.
    """
    task = catalog.task(task) if isinstance(task, str) else task
    variation = canonical(variation)
    if variation:
        requirements.check(variation, task)
    return TaskEnv(task, variation=variation, simulation=open_simulation(task), **options)
