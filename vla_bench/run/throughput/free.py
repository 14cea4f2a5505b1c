"""A policy that costs nothing, and wants to see what another one wants to see."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vla_bench.policy.base import PolicySpec
from vla_bench.types import ActionChunk, Observation, Simulation, Task


class Free:
    """Stands still as a task does while it settles.

    Args:
        spec: What it is shown, and how many actions an answer holds.
        simulation: Whose actions it gives.
    """

    def __init__(self, spec: PolicySpec, simulation: Simulation) -> None:
        self.spec = spec
        still = np.zeros(simulation.action_size)
        settling = np.array(simulation.task.settle_action)
        if settling.shape == still.shape:
            still = settling
        self._chunk = ActionChunk(np.tile(still, (spec.chunk_length, 1)))

    def reset(self, instruction: str, seed: int) -> None:
        """Nothing to forget."""

    def act(self, observations: Sequence[Observation]) -> ActionChunk:
        """Return a chunk that does nothing."""
        return self._chunk


def task_spec(task: Task, chunk: int = 1) -> PolicySpec:
    """What a policy would want that wants every picture of a task, in the task's size."""
    size = (task.observation_height_px, task.observation_width_px)
    return PolicySpec(cameras=task.cameras, image_px=size, chunk_length=chunk)
