"""Where episodes start: seeded draws, the published protocol's resets, and files of initial states."""

from __future__ import annotations

import mujoco

from vla_bench import seeding
from vla_bench.errors import ConventionError, DataError
from vla_bench.sim.init_states import read_init_states
from vla_bench.sim.placement import Draw, Placer
from vla_bench.sim.rotations import ModernStream
from vla_bench.sim.scene import Scene
from vla_bench.types import Array, Task

# model builds of a fresh original environment at its first reset: one in the constructor, one in reset()
_FIRST_RESET_BUILDS = 2


class Starts:
    """Initial scenes of one task.

    Args:
        task: The task.
        scene: Its scene.
        model: The compiled scene.
        namespace: Whose seeds built-in scenes are drawn with.
    """

    def __init__(self, task: Task, scene: Scene, model: mujoco.MjModel, namespace: seeding.Namespace) -> None:
        self._task, self._scene = task, scene
        self._namespace: seeding.Namespace = namespace
        self._state_size = 1 + model.nq + model.nv
        self.placer = Placer(scene, model)
        self._protocol_stream = seeding.libero_stream(0)
        self._protocol_draws: list[Draw] = []

    def seeded(self, scene_id: str, seed: int) -> Draw:
        """The first reset of a fresh environment seeded with `seed`."""
        if self._scene.place.builtin:
            stream = ModernStream(seeding.generator(self._namespace, scene_id, seed))
        else:
            stream = seeding.libero_stream(seed)
        return self.placer.sample(stream, _FIRST_RESET_BUILDS)

    def protocol(self, k: int) -> Draw:
        """Reset k (from 0) of one original environment seeded with 0, fast-forwarded and kept."""
        draws = self._protocol_draws
        while len(draws) <= k:
            builds = draws[-1].builds + 1 if draws else _FIRST_RESET_BUILDS
            draws.append(self.placer.sample(self._protocol_stream, builds))
        return draws[k]

    def state(self, k: int) -> Array:
        """Row k of the task's file of initial states: [time, qpos, qvel].

        Raises:
            ConventionError: The suite has none.
            DataError: The file has no such row, or is another scene's.
        """
        task = self._task
        if task.init_states is None:
            raise ConventionError(f"suite {task.suite!r} has no initial states; give the episode a seed")
        states = read_init_states(task.init_states)
        if states.shape[1] != self._state_size:
            raise DataError(
                task.init_states,
                f"has states of length {states.shape[1]}; the scene of {task.bddl.name} needs "
                f"{self._state_size}",
            )
        if not 0 <= k < len(states):
            raise DataError(task.init_states, f"has initial states 0 … {len(states) - 1}, not {k}")
        return states[k]
