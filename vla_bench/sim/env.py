"""Every task as a Gymnasium environment, for everybody who does not use the runner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from vla_bench import catalog
from vla_bench.errors import ConventionError, UnknownNameError, VlaBenchError
from vla_bench.sim.simulation import MujocoSimulation
from vla_bench.types import CameraView, Episode, Observation, Simulation, Task

# name → size and bound; generous, for joint limits are soft and the arm cannot leave its base
_PROPRIO = {
    "robot0_eef_pos": (3, 4.0),
    "robot0_eef_quat": (4, 1.01),
    "robot0_gripper_qpos": (2, 0.1),
    "robot0_joint_pos": (7, 2 * np.pi),
}
# convention → largest magnitudes of a command
_ACTIONS = {
    "delta_pose": np.ones(7),
    "absolute_pose": np.array([4.0, 4.0, 4.0, 2 * np.pi, 2 * np.pi, 2 * np.pi, 1.0]),
}


class TaskEnv(gymnasium.Env):
    """One task; a step lasts one policy period.

    The action is (7,): Δx Δy Δz (×0.05 m), rotation vector (×0.5 rad), gripper (−1 open, +1 closed); where
    the task's `action_convention` is `absolute_pose`, the hand's position (m) and rotation vector (rad). The
    observation holds a picture for each camera, top row first, and the proprioception by name. `info` holds
    the `instruction`, `success`, `score` and `stages`.

    `reset(seed=s)` is the first reset of a fresh original environment seeded with s; without a seed, one is
    drawn from the environment's own generator. `reset(options={"init_state": k})` is the protocol's
    episode k, before its settling steps.

    Args:
        task: A task or its id.
        variation: Factors at levels; "" is the unchanged task. Needs a simulation that knows variations:
            `vla_bench.axes.environment.make_env`, which `gymnasium.make` calls, builds one.
        cameras: Cameras to render every step; default: those of the suite's protocol; none: `()`.
        image_px: Height and width; default: the protocol's.
        render_mode: `rgb_array` or None.
        simulation: What simulates the task; by default the unchanged task's.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012

    def __init__(
        self,
        task: Task | str,
        *,
        variation: str = "",
        cameras: Sequence[str] | None = None,
        image_px: tuple[int, int] | None = None,
        render_mode: str | None = None,
        simulation: Simulation | None = None,
    ) -> None:
        self.task = catalog.task(task) if isinstance(task, str) else task
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise VlaBenchError(
                f"render_mode {render_mode!r}; known: {self.metadata['render_modes']} and None"
            )
        self.render_mode = render_mode
        self.metadata = {**self.metadata, "render_fps": round(1 / self.task.policy_period_s)}
        self._variation = variation
        self.simulation: Simulation = simulation or MujocoSimulation(self.task)
        self._instruction = self.task.instruction
        height, width = image_px or (self.task.observation_height_px, self.task.observation_width_px)
        names = self.task.cameras if cameras is None else tuple(cameras)
        for name in names:
            if name not in self.simulation.cameras:
                raise UnknownNameError("camera", name, self.simulation.cameras, where=self.task.id)
        self._views = [CameraView(name, height, width) for name in names]
        self._render_view = CameraView(self.task.cameras[0], height, width)
        if self.task.action_convention not in _ACTIONS:
            raise UnknownNameError(
                "action convention", self.task.action_convention, _ACTIONS, where=self.task.id
            )
        most = _ACTIONS[self.task.action_convention]
        self.action_space = spaces.Box(-most, most, dtype=np.float64)
        images = {v.name: spaces.Box(0, 255, (v.height_px, v.width_px, 3), np.uint8) for v in self._views}
        proprio = {name: spaces.Box(-b, b, (n,), np.float64) for name, (n, b) in _PROPRIO.items()}
        self.observation_space = spaces.Dict({**images, **proprio})
        self._steps: int | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Start an episode; see the class."""
        super().reset(seed=seed)
        options = dict(options or {})
        init_state = options.pop("init_state", None)
        if options:
            raise VlaBenchError(f"unknown reset options {sorted(options)}; known: init_state")
        if init_state is None and seed is None:
            seed = int(self.np_random.integers(2**32))
        episode = Episode(
            self.task.id,
            self._variation,
            seed=None if init_state is not None else seed,
            init_state=init_state,
        )
        self.simulation.reset(episode)
        self._steps = 0
        return self._observation(), self._info()

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Advance one policy period; reward is 1 and the episode terminates when the goal holds after a tick.

        Raises:
            ConventionError: The action has another shape or is not finite, or there was no reset.
        """
        if self._steps is None:
            raise ConventionError(f"{self.task.id}: call reset() before step()")
        success = False
        for tick in range(self.task.ticks_per_step):
            self.simulation.tick(action if tick == 0 else None)
            success = success or self.simulation.succeeded
            if success:
                break
        self._steps += 1
        truncated = not success and self._budget_is_spent()
        return self._observation(), float(success), success, truncated, self._info(success)

    def _budget_is_spent(self) -> bool:
        budget, steps = self.task.budget, self._steps or 0
        out_of_steps = budget.steps is not None and steps >= budget.steps
        out_of_time = budget.time_s is not None and steps * self.task.policy_period_s >= budget.time_s - 1e-9
        return out_of_steps or out_of_time

    def render(self) -> np.ndarray | None:
        """Return the first camera's picture when `render_mode` is `rgb_array`."""
        if self.render_mode is None:
            return None
        return self.simulation.observe([self._render_view]).images[self._render_view.name]

    def close(self) -> None:
        """Release graphics."""
        self.simulation.close()

    def _observation(self) -> dict[str, np.ndarray]:
        seen: Observation = self.simulation.observe(self._views)
        self._instruction = seen.instruction
        return {**seen.images, **{name: seen.proprio[name].copy() for name in _PROPRIO}}

    def _info(self, success: bool = False) -> dict[str, Any]:
        simulation = self.simulation
        return {
            "instruction": self._instruction,
            "success": success or simulation.succeeded,
            "score": simulation.score,
            "stages": simulation.stages,
        }
