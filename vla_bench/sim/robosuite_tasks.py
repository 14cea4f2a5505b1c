"""robosuite's own tasks, set up as robomimic does and stepped by robosuite itself.

An episode's seed is that of numpy's global stream just before `env.reset()`, as in robomimic and in Diffusion
Policy's evaluation; every reset loads the model anew, so that an episode depends on nothing but its seed. The
pictures are drawn here, with the textures' colours as they were when the published data were rendered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import mujoco
import numpy as np

from vla_bench import seeding
from vla_bench.config import FileModel, parse
from vla_bench.errors import ConventionError, DivergedError, MissingCapabilityError, UnknownNameError
from vla_bench.sim.graphics import SceneRenderer
from vla_bench.sim.robosuite_import import import_robosuite
from vla_bench.types import Array, CameraView, Episode, Image, Observation, Task

# action convention → whether OSC_POSE takes differences in [−1, 1], or the hand's pose in m and rad
CONTROL_DELTA = {"delta_pose": True, "absolute_pose": False}
# robosuite joins what it tells of one kind under such names; the others are robomimic's
_JOINED = {"object-state": "object"}


class Options(FileModel):
    """What a scene is called in robosuite.

    Attributes:
        environment: Name of the environment.
        object: Name of the object that is to be moved.
    """

    environment: str
    object: str


class RobosuiteSimulation:
    """One of robosuite's tasks with a Panda arm; see `types.Simulation` for the contract.

    Proprioception has robosuite's names; `object` joins what robosuite tells of the object, as robomimic's
    policies without cameras take it. Success is robosuite's, after every tick; `score` is robosuite's shaped
    reward, and the stage `grasped` its test of a grasp.

    Args:
        task: What to simulate.
        namespace: Whose seeds; those of `eval` are numpy's own, as published.

    Raises:
        MissingCapabilityError: robosuite does not run here.
        UnknownNameError: It has no such environment, object, camera or way of control.
    """

    def __init__(self, task: Task, *, namespace: seeding.Namespace = "eval") -> None:
        self.task = task
        self._namespace: seeding.Namespace = namespace
        assert task.engine is not None, task
        at = f"{task.suite}.scenes.{task.stem}.options"
        self._options = parse(Options, dict(task.engine.options), task.source, at=at)
        with seeding.global_stream(seeding.numpy_stream(0)):
            self._env = _make(task, self._options.environment)
        self.action_size = int(self._env.action_dim)
        self._find_object()
        self.cameras = tuple(self._model.camera(i).name for i in range(self._model.ncam))
        for name in task.cameras:
            self._check_camera(name)
        self._renderer: SceneRenderer | None = None
        self._begin()

    @property
    def _model(self) -> mujoco.MjModel:
        return self._env.sim.model._model  # another after every reset

    @property
    def _data(self) -> mujoco.MjData:
        return self._env.sim.data._data

    def _find_object(self) -> None:
        found = {each.name: each for each in self._env.model.mujoco_objects}
        if self._options.object not in found:
            raise UnknownNameError("object", self._options.object, found, where=self.task.id)
        self._object = found[self._options.object]

    # ── start ──────────────────────────────────────────────────────────────────────────────────────────

    def reset(self, episode: Episode) -> None:
        """Put the simulation into the initial state that robosuite draws with the episode's seed.

        Raises:
            MissingCapabilityError: The episode is varied.
            ConventionError: It has no seed.
        """
        if episode.variation:
            raise MissingCapabilityError(f"{episode.key}: robosuite's own tasks cannot be varied")
        if episode.seed is None:
            raise ConventionError(f"{episode.key}: robosuite's own tasks begin with a seed")
        self._release()
        with seeding.global_stream(seeding.numpy_stream(self._numpys_seed(episode.seed))):
            self._env.reset()
        self._find_object()
        self._begin()

    def _numpys_seed(self, seed: int) -> int:
        """Seeds of other namespaces are spread over all, far from the small ones that evaluations use."""
        if self._namespace == "eval":
            return seed
        return int(seeding.generator(self._namespace, "robosuite", seed).integers(2**31, 2**32))

    def _begin(self) -> None:
        self._ticks = 0
        self._command = np.zeros(self.action_size)  # a gripper that is told 0 stays as it is
        self._grasped = False
        self._succeeded = bool(self._env._check_success())

    # ── go ─────────────────────────────────────────────────────────────────────────────────────────────

    def tick(self, command: Array | None) -> None:
        """Advance `task.tick_s` with a new command, or None to keep the controller's goal and gripper sign.

        Raises:
            ConventionError: The command is not a finite array of `action_size` numbers.
            DivergedError: The physics left the numbers.
        """
        is_new = command is not None
        if command is not None:
            self._command = self._checked(command)
        self._ticks += 1
        env = self._env
        try:
            for substep in range(self.task.substeps_per_tick):  # as `env.step`, which knows no old commands
                env.sim.forward()
                env._pre_action(self._command, is_new and substep == 0)
                env.sim.step()
                env._update_observables()
        except (ZeroDivisionError, np.linalg.LinAlgError) as error:
            raise self._diverged() from error
        if self._data.warning.number.any() or not np.isfinite(self._data.qpos).all():
            raise self._diverged()
        self._succeeded = bool(env._check_success())
        self._grasped = self._grasped or bool(env._check_grasp(env.robots[0].gripper, self._object))

    def _checked(self, command: Array) -> Array:
        command = np.array(command, dtype=np.float64)
        if command.shape != (self.action_size,) or not np.isfinite(command).all():
            raise ConventionError(
                f"{self.task.id} takes actions of shape ({self.action_size},) with finite numbers, "
                f"got shape {command.shape}: {command}"
            )
        return command

    def _diverged(self) -> DivergedError:
        counts = enumerate(self._data.warning.number)
        raised = [f"{mujoco.mjtWarning(kind).name} ×{count}" for kind, count in counts if count]
        why = ", ".join(raised) or "a number is not finite"
        return DivergedError(f"{self.task.id}: the physics diverged at tick {self._ticks}: {why}")

    # ── look ───────────────────────────────────────────────────────────────────────────────────────────

    def observe(self, views: Sequence[CameraView] = (), *, privileged: bool = False) -> Observation:
        """Return robosuite's observation; renders each view that is asked for, and nothing else.

        Raises:
            UnknownNameError: There is no such camera.
            MissingCapabilityError: A snapshot of the world is asked for.
        """
        if privileged:
            raise MissingCapabilityError(
                f"{self.task.id} tells no policy the state of the world: scripted experts do not act in "
                "robosuite's own tasks"
            )
        images = {view.name: self._picture(view) for view in views}
        seen = self._env._get_observations()
        told = {**{name: name for name in self._env.observation_names}, **_JOINED}
        proprio = {
            told[key]: np.array(value, dtype=np.float64, ndmin=1)
            for key, value in seen.items()
            if key in told
        }
        return Observation(images, proprio, self.task.instruction, self._ticks * self.task.tick_ns)

    def _picture(self, view: CameraView) -> Image:
        """As robosuite draws: the kinematics are those before the last physics step's integration."""
        self._check_camera(view.name)
        if self._renderer is None:
            self._model.tex_colorspace[:] = mujoco.mjtColorSpace.mjCOLORSPACE_LINEAR
            self._renderer = SceneRenderer(self._model)
        return self._renderer.render(self._data, view.name, view.height_px, view.width_px)

    def _check_camera(self, name: str) -> None:
        if name not in self.cameras:
            raise UnknownNameError("camera", name, self.cameras, where=self.task.id)

    # ── judge ──────────────────────────────────────────────────────────────────────────────────────────

    @property
    def succeeded(self) -> bool:
        """Whether robosuite's test held at the last tick."""
        return self._succeeded

    @property
    def score(self) -> float:
        """Partial credit in [0, 1]: robosuite's shaped reward at the last tick, 1 where the task is done."""
        return 1.0 if self._succeeded else float(np.clip(self._env.reward(), 0.0, 1.0))

    @property
    def stages(self) -> tuple[str, ...]:
        """`grasped`, once the object has been held in this episode."""
        return ("grasped",) * self._grasped

    @property
    def drawn(self) -> Mapping[str, Any]:
        """Values drawn for the variation: none."""
        return MappingProxyType({})

    def close(self) -> None:
        """Release memory and graphics."""
        self._release()

    def _release(self) -> None:
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None


def _make(task: Task, environment: str) -> Any:
    """Return robosuite's environment, with the arguments of robomimic's data, and no pictures of its own."""
    robosuite = import_robosuite()
    if environment not in robosuite.ALL_ENVIRONMENTS:
        raise UnknownNameError("environment", environment, robosuite.ALL_ENVIRONMENTS, where=task.id)
    if task.action_convention not in CONTROL_DELTA:
        raise UnknownNameError("action convention", task.action_convention, CONTROL_DELTA, where=task.id)
    controller = robosuite.load_controller_config(default_controller="OSC_POSE")
    controller["control_delta"] = CONTROL_DELTA[task.action_convention]
    env = robosuite.make(
        environment, robots=["Panda"], controller_configs=controller, control_freq=1 / task.tick_s,
        reward_shaping=True, ignore_done=True, hard_reset=True,
        use_object_obs=True, use_camera_obs=False, has_renderer=False, has_offscreen_renderer=False,
    )  # fmt: skip
    env.modify_observable("robot0_joint_pos", "active", True)
    return env
