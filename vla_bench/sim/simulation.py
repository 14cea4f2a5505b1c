"""A simulated task on plain MuJoCo: reset, tick, observe.

Reproduces LIBERO's environment on the same engine: the same episode starts, the same torques, the same
observations, the same instant of success (`tests/parity/test_libero_*`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import mujoco
import numpy as np

from vla_bench import seeding
from vla_bench.errors import ConventionError, DivergedError, MissingCapabilityError, UnknownNameError
from vla_bench.sim.controller import Backend, Controller
from vla_bench.sim.edits import NO_EDITS, Blueprint, Edits, ModelState, set_constants
from vla_bench.sim.indicators import Indicators
from vla_bench.sim.judge import Judge
from vla_bench.sim.moving import Mover
from vla_bench.sim.placement import Draw
from vla_bench.sim.predicates import Predicates
from vla_bench.sim.robot import FINGERS, GRIPPER_REST_QPOS, HAND_BODY, JOINTS, REST_QPOS
from vla_bench.sim.scene import build_scene, read_task
from vla_bench.sim.starts import Starts
from vla_bench.sim.state import Observer
from vla_bench.sim.tabletop import TabletopPredicates
from vla_bench.sim.window import Window
from vla_bench.types import Array, CameraView, Episode, Observation, Predicate, Task


class MujocoSimulation:
    """One task's simulation; see `types.Simulation` for the contract.

    Args:
        task: What to simulate.
        backend: `numba`, the default, or `numpy`, the reference that parity is judged with.
        blueprint: How the scene differs from the task's file; such a simulation starts from the state of
            another one (`start_from`), since its own objects have no place in the file.
        namespace: Whose seeds built-in scenes are drawn with.

    Raises:
        MissingDataError, DataError, UnknownNameError: The task's files cannot be used.
    """

    def __init__(
        self,
        task: Task,
        *,
        backend: Backend = "numba",
        blueprint: Blueprint = NO_EDITS.blueprint,
        namespace: seeding.Namespace = "eval",
    ) -> None:
        self.task = task
        self.blueprint = blueprint
        self.scene = build_scene(blueprint.of(read_task(task.bddl)), blueprint.parts)
        self.model = self.scene.physics_model()
        self.model.opt.timestep = task.substep_s
        self.data = mujoco.MjData(self.model)
        self.controller = Controller(self.model, self.data, backend)
        self.action_size = 7
        names = (self.model.camera(i).name for i in range(self.model.ncam))
        self.cameras = tuple(names)
        for camera in task.cameras:
            self._check_camera(camera)
        if not blueprint.key:
            self.starts = Starts(task, self.scene, self.model, namespace)
        meaning = TabletopPredicates if self.scene.place.builtin else Predicates
        self._judge = Judge(task, self.scene.problem, meaning(self.scene, self.model, self.data))
        self._mover = Mover(self.model, self.data, self.scene.problem.moving, str(task.bddl))
        self.edits = NO_EDITS
        self._unedited: ModelState | None = None
        self._instruction: str | None = None
        self._indicators = Indicators(self.scene, self.model)
        self._observer = Observer(self.scene, self.model)
        self._window = Window(self.scene)
        self._arm_qpos = [self.model.joint(name).qposadr[0] for name in JOINTS]
        self._finger_qpos = [self.model.joint(name).qposadr[0] for name in FINGERS]
        self._grip_site = self.model.site("gripper0_grip_site").id
        self._hand_body = self.model.body(HAND_BODY).id
        self._warning_counts = self.data.warning.number  # a view

    # ── start ──────────────────────────────────────────────────────────────────────────────────────────

    def reset(self, episode: Episode) -> None:
        """Put the world into the initial state of `episode`.

        An episode with an initial state k is the published protocol's: stream seeded with 0, k + 1 resets,
        then row k of the task's file; the fixtures stay where the last reset put them. An episode with a
        seed is the first reset of a fresh environment seeded with it.
        """
        if episode.variation:
            raise MissingCapabilityError(
                f"{episode.key}: this simulation has no variations; vla_bench.axes.build_simulation makes one"
            )
        self._undo_edits()
        if episode.init_state is None:
            assert episode.seed is not None, episode
            self._reset_to(self.starts.seeded(self.scene_id, episode.seed))
            return
        state = self.starts.state(episode.init_state)
        self._reset_to(self.starts.protocol(episode.init_state))
        self.set_state(state)

    @property
    def scene_id(self) -> str:
        """What seeded draws of the initial state belong to: the task, or the scene that it shares."""
        shared = self.scene.problem.scene
        return f"{self.task.suite}/{shared}" if shared else self.task.id

    def _reset_to(self, draw: Draw) -> None:
        model, data = self.model, self.data
        mujoco.mj_resetData(model, data)
        self._indicators.reset()
        data.qpos[self._arm_qpos] = REST_QPOS
        data.qpos[self._finger_qpos] = GRIPPER_REST_QPOS
        for name, value in draw.joints.items():
            data.joint(name).qpos[0] = value
        for name, (pos, quat) in draw.poses.items():
            item = self.scene.items[name]
            if item.movable:
                data.joint(f"{name}_joint0").qpos[:] = [*pos, *quat]
            else:
                body = model.body(item.body).id
                model.body_pos[body], model.body_quat[body] = pos, quat
        mujoco.mj_forward(model, data)
        self.controller.reset()
        self._lag = 0
        self._begin()

    def set_state(self, state: Array) -> None:
        """Set [time, qpos, qvel]; fixtures and controller keep their reset pose, as in LIBERO.

        Each call moves the instant of later observations one physics step earlier: LIBERO's sampling clock
        counts it as a step.
        """
        model, data = self.model, self.data
        data.time = state[0]
        data.qpos[:] = state[1 : 1 + model.nq]
        data.qvel[:] = state[1 + model.nq :]
        mujoco.mj_forward(model, data)
        self._lag += 1
        self._begin()
        self._indicators.show(self.data.qpos)

    def start_from(self, other: MujocoSimulation) -> None:
        """Put what both scenes have into the state that `other` is in, just after its reset."""
        self._undo_edits()
        model, data = self.model, self.data
        mujoco.mj_resetData(model, data)
        self._indicators.reset()
        for name, item in self.scene.items.items():
            if name in other.scene.items and not item.movable:
                body, same = model.body(item.body).id, other.model.body(item.body).id
                model.body_pos[body] = other.model.body_pos[same]
                model.body_quat[body] = other.model.body_quat[same]
        known = {other.model.joint(j).name for j in range(other.model.njnt)}
        for name in (model.joint(j).name for j in range(model.njnt)):
            if name in known:
                data.joint(name).qpos[:] = other.data.joint(name).qpos
                data.joint(name).qvel[:] = other.data.joint(name).qvel
        data.time = other.data.time
        mujoco.mj_forward(model, data)
        self.controller.adopt(other.controller)
        self._lag = other._lag
        self._begin()

    # ── vary ───────────────────────────────────────────────────────────────────────────────────────────

    def apply(self, edits: Edits) -> None:
        """Change the episode that has just been reset; the next reset undoes it. Nothing is compiled.

        Raises:
            DataError: A literal of the new goal cannot be evaluated.
        """
        model, data = self.model, self.data
        if edits.model:
            self._unedited = ModelState(model)
            for change in edits.model:
                change(self)
            set_constants(model)
        arm = data.qpos[self._arm_qpos].copy()
        for change in edits.start:
            change(self)
        if edits.model or edits.start:
            mujoco.mj_forward(model, data)
        if not np.array_equal(arm, data.qpos[self._arm_qpos]):
            self.controller.reset()
        said = edits.instruction
        self._instruction = said(self) if callable(said) else said
        if edits.goal is not None:
            self._judge.aim_at(edits.goal)
        self._window.dress(edits.canvas)
        self.edits = edits
        self._begin()

    def _undo_edits(self) -> None:
        if self._unedited is not None:
            self._unedited.restore()
            self._unedited = None
        if self.edits.goal is not None:
            self._judge.aim_at(self.scene.problem.goal)
        self._window.dress(())
        self._instruction = None
        self.edits = NO_EDITS

    @property
    def instruction(self) -> str:
        """What the policy is told."""
        return self.task.instruction if self._instruction is None else self._instruction

    @property
    def start_time_s(self) -> float:
        """Physics time at which the episode began."""
        return self._start_time_s

    def _begin(self) -> None:
        self._start_time_s = self.data.time
        self._ticks = 0
        self._mover.begin()
        self._seen = _Seen(self.data.qpos.copy(), self._kinematics(), self.data.qpos.copy())
        self._judge.begin()

    # ── go ─────────────────────────────────────────────────────────────────────────────────────────────

    def tick(self, command: Array | None) -> None:
        """Advance `task.tick_s` with a new command, or None to keep the controller's goal and gripper sign.

        Raises:
            ConventionError: The command is not a finite array of `action_size` numbers.
            DivergedError: The physics left the numbers.
        """
        if command is not None:
            command = np.asarray(command, dtype=np.float64)
            if command.shape != (self.action_size,) or not np.isfinite(command).all():
                raise ConventionError(
                    f"{self.task.id} takes actions of shape ({self.action_size},) with finite numbers, "
                    f"got shape {command.shape}: {command}"
                )
        for act in self.edits.tick:
            act(self)
        self._mover.apply()
        self._indicators.show(self.data.qpos)
        self._ticks += 1
        substeps = self.task.substeps_per_tick
        try:
            self.controller.advance(command, substeps, substeps - 1 - self._lag, self._snapshot)
        except (ZeroDivisionError, np.linalg.LinAlgError) as error:  # the arm's inertia is gone
            raise self._diverged() from error
        # after a warning MuJoCo resets the state by itself, so that it looks sound again
        if self._warning_counts.any() or not np.isfinite(self.data.qpos).all():
            raise self._diverged()
        self._judge.see_tick(closes_gripper=self.controller.closes_gripper)

    def _snapshot(self) -> None:
        """Remember the instant of observation: before, then after the integration of one physics step."""
        if self._seen.complete:
            self._seen = _Seen(self.data.qpos.copy(), self._kinematics(), None)
        else:
            self._seen.joints = self.data.qpos.copy()

    def _kinematics(self) -> tuple[Array, Array]:
        return self.data.site_xpos[self._grip_site].copy(), self.data.xquat[self._hand_body].copy()

    def _diverged(self) -> DivergedError:
        raised = [f"{mujoco.mjtWarning(kind).name} ×{n}" for kind, n in enumerate(self._warning_counts) if n]
        why = ", ".join(raised) or "a position is not finite"
        return DivergedError(f"{self.task.id}: the physics diverged at tick {self._ticks}: {why}")

    # ── look ───────────────────────────────────────────────────────────────────────────────────────────

    @property
    def time_ns(self) -> int:
        """Simulated time since the start of the episode."""
        return self._ticks * self.task.tick_ns

    def observe(self, views: Sequence[CameraView] = (), *, privileged: bool = False) -> Observation:
        """Return what is seen now; renders each view that is asked for, once, and nothing else.

        As in LIBERO, poses and pictures are those before the integration of the physics step in which
        observations are sampled, joint positions those after it.
        """
        pos, quat = self._seen.kinematics
        joints = self._seen.joints
        assert joints is not None
        proprio = {
            "robot0_eef_pos": pos.copy(),
            "robot0_eef_quat": quat[[1, 2, 3, 0]],  # (x, y, z, w), as robosuite
            "robot0_gripper_qpos": joints[self._finger_qpos],
            "robot0_joint_pos": joints[self._arm_qpos],
        }
        for view in views:
            self._check_camera(view.name)
        images = self._window.pictures(views, self._seen.qpos, self.model) if views else {}
        for effect in self.edits.lens:
            images = {name: effect(image, name, self.time_ns) for name, image in images.items()}
        state = None
        if privileged:
            state = self._observer.snapshot(self._seen.qpos, self.time_ns, self.goal, self.satisfied)
        return Observation(images, proprio, self.instruction, self.time_ns, state)

    def _check_camera(self, name: str) -> None:
        if name not in self.cameras:
            raise UnknownNameError("camera", name, self.cameras, where=self.task.id)

    # ── judge ──────────────────────────────────────────────────────────────────────────────────────────

    @property
    def goal(self) -> tuple[Predicate, ...]:
        """The literals whose conjunction is success."""
        return self._judge.goal

    @property
    def satisfied(self) -> tuple[bool, ...]:
        """Whether each literal of the goal held at the last tick."""
        return self._judge.satisfied

    @property
    def succeeded(self) -> bool:
        """Whether the goal held at the last tick, and for as long before as the task wants."""
        return self._judge.succeeded

    @property
    def score(self) -> float:
        """Partial credit in [0, 1]; see `Judge.score`."""
        return self._judge.score

    @property
    def stages(self) -> tuple[str, ...]:
        """Named stages that have been reached in this episode; without stages, the literals that hold."""
        return self._judge.stages

    @property
    def drawn(self) -> Mapping[str, Any]:
        """Values drawn for the variation: none."""
        return MappingProxyType({})

    def close(self) -> None:
        """Release graphics."""
        self._window.close()


class _Seen:
    """The instant of observation: positions and kinematics before a physics step, positions after it."""

    __slots__ = ("joints", "kinematics", "qpos")

    def __init__(self, qpos: Array, kinematics: tuple[Array, Array], joints: Array | None) -> None:
        self.qpos, self.kinematics, self.joints = qpos, kinematics, joints

    @property
    def complete(self) -> bool:
        return self.joints is not None
