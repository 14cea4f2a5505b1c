"""The contract of a simulation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from vla_bench.types.arrays import Array
from vla_bench.types.observation import CameraView, Observation
from vla_bench.types.tasks import Episode, Task


class Simulation(Protocol):
    """What the runner needs of a simulated task."""

    task: Task
    action_size: int
    cameras: tuple[str, ...]

    def reset(self, episode: Episode) -> None:
        """Put the simulation into the initial state of `episode`."""
        ...

    def tick(self, command: Array | None) -> None:
        """Advance `task.tick_s`; None = no new command: the controller keeps its goal."""
        ...

    def observe(self, views: Sequence[CameraView] = (), *, privileged: bool = False) -> Observation:
        """Return the observation of now; only the views asked for are rendered."""
        ...

    @property
    def succeeded(self) -> bool:
        """Whether the goal held at the last tick."""
        ...

    @property
    def score(self) -> float:
        """Partial credit in [0, 1]."""
        ...

    @property
    def stages(self) -> tuple[str, ...]:
        """Named stages that have been reached."""
        ...

    @property
    def drawn(self) -> Mapping[str, Any]:
        """Values drawn for this episode's variation, for the record."""
        ...

    def close(self) -> None:
        """Release memory and graphics."""
        ...
