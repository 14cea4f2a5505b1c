"""The arm's controller: robosuite 1.4.0's OSC_POSE (operational-space control) and its gripper.

With x, R the grip site's pose, J its 6×7 Jacobian, v = J q̇, M the arm's 7×7 mass matrix, and a goal (x*, R*):

    F  = kp (x* − x) − kd v_lin          T = kp e_o − kd v_ang,   e_o = vee of the antisymmetric part of R* Rᵀ
    Λ  = (J M⁻¹ Jᵀ)⁻¹, Λp and Λo the inverses of its diagonal 3×3 blocks' sources (uncoupled)
    p  = M (10 (q0 − q) − 2√10 q̇)        (keeps the rest posture in the null space)
    τ  = Jᵀ ([Λp F; Λo T] − Λ J M⁻¹ p) + p + bias, clipped to the actuators' range

Quirks that belong to the original and are kept: the goal is set from the achieved pose on the first physics
step of a command; the goal orientation is replaced only if a rotation command is non-zero; that rotation
passes through a float32 quaternion; after a reset the first physics step uses the reset pose; the gripper
integrates ±0.01 a physics step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import mujoco
import numpy as np

from vla_bench.sim.robot import ARM_ACTUATORS, GRIP_SITE, GRIPPER_ACTUATORS, JOINTS, REST_QPOS
from vla_bench.sim.rotations import float32_rotation
from vla_bench.types import Array

Backend = Literal["numpy", "numba"]

KP = 150.0
KD = 2.0 * np.sqrt(KP)
POSTURE_KP = 10.0
POSTURE_KD = 2.0 * np.sqrt(POSTURE_KP)
TRANSLATION_M = 0.05  # displacement of a full command
ROTATION_RAD = 0.5
GRIPPER_SPEED = 0.01  # change of the gripper's command in a physics step, of a range of [−1, 1]


@dataclass(slots=True)
class ArmState:
    """What the torque is computed from: grip pose, joints, Jacobian (6, nv), arm mass matrix (7, 7)."""

    x: Array
    R: Array
    q: Array
    qd: Array
    J: Array
    v: Array
    M: Array


class Controller:
    """Drives one simulated arm; `advance` runs the physics steps of a tick."""

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData, backend: Backend = "numba") -> None:
        self._model, self._data, self.backend = model, data, backend
        self._torque = _torque_function(backend)
        dofs = [model.joint(name).dofadr[0] for name in JOINTS]
        qpos = [model.joint(name).qposadr[0] for name in JOINTS]
        arm = [model.actuator(name).id for name in ARM_ACTUATORS]
        gripper = [model.actuator(name).id for name in GRIPPER_ACTUATORS]
        for indices in (dofs, qpos, arm, gripper):
            assert np.all(np.diff(indices) == 1), "arm joints and actuators are consecutive in this model"
        self._dofs = slice(dofs[0], dofs[0] + 7)
        self._site = model.site(GRIP_SITE).id
        self._low, self._high = model.actuator_ctrlrange[arm].T.copy()
        low, high = model.actuator_ctrlrange[gripper].T
        self._grip_middle, self._grip_half = 0.5 * (high + low), 0.5 * (high - low)
        # views into the simulation: reading them costs nothing
        self._x = data.site_xpos[self._site]
        self._R = data.site_xmat[self._site].reshape(3, 3)
        self._q = data.qpos[qpos[0] : qpos[0] + 7]
        self._qd = data.qvel[self._dofs]
        self._bias = data.qfrc_bias[self._dofs]
        self._arm_ctrl = data.ctrl[arm[0] : arm[0] + 7]
        self._grip_ctrl = data.ctrl[gripper[0] : gripper[0] + 2]
        self._J, self._M, self._v = np.zeros((6, model.nv)), np.zeros((model.nv, model.nv)), np.zeros(6)
        self._qvel, self._qM = data.qvel, data.qM
        self._J_lin, self._J_ang = self._J[:3], self._J[3:]
        arm_dofs = self._dofs
        self._now = ArmState(
            self._x, self._R, self._q, self._qd, self._J[:, arm_dofs], self._v, self._M[arm_dofs, arm_dofs]
        )
        self._stale: ArmState | None = None

    def reset(self) -> None:
        """Forget the past; the simulation stands in its reset pose with positions computed."""
        self._stale = self._remember()
        self._goal_x: Array | None = None
        self._goal_R = self._R.copy()
        self._grip = np.zeros(2)
        self._grip_sign = np.zeros(2)

    def adopt(self, other: Controller) -> None:
        """Continue from another controller that has just been reset, of the same arm in another scene."""
        self.reset()
        stale, its = self._stale, other._stale
        assert stale is not None
        assert its is not None, "the other controller has not moved since its reset"
        for name in ("x", "R", "q", "qd", "J", "v", "M"):
            getattr(stale, name)[...] = getattr(its, name)
        self._goal_R = other._goal_R.copy()

    def advance(
        self, command: Array | None, substeps: int, snapshot_at: int, snapshot: Callable[[], None]
    ) -> None:
        """Run the physics steps of one tick.

        Args:
            command: (7,) action, or None to keep goal and gripper sign.
            substeps: Number of physics steps.
            snapshot_at: `snapshot` is called in this step (from 0), after positions are computed and again
                after the integration.
            snapshot: Called twice.
        """
        model, data = self._model, self._data
        step1, step2 = mujoco.mj_step1, mujoco.mj_step2
        if command is not None:
            self._grip_sign = np.array([-GRIPPER_SPEED, GRIPPER_SPEED]) * np.sign(command[6])
        grips = np.clip(self._grip + self._grip_sign * np.arange(1, substeps + 1)[:, None], -1.0, 1.0)
        self._grip = grips[-1]
        grips = self._grip_middle + self._grip_half * grips
        for i in range(substeps):
            step1(model, data)
            state = self._measure() if self._stale is None else self._stale
            self._stale = None
            if i == 0:
                self._set_goal(command, state)
            self._torque(
                state.x, state.R, state.q, state.qd, state.J, state.v, state.M, self._bias,
                self._goal_x, self._goal_R, REST_QPOS, self._low, self._high, self._arm_ctrl,
            )  # fmt: skip
            self._grip_ctrl[:] = grips[i]
            if i == snapshot_at:
                snapshot()
                step2(model, data)
                snapshot()
            else:
                step2(model, data)

    @property
    def closes_gripper(self) -> bool:
        """Whether the last command told the gripper to close."""
        return self._grip_sign[1] > 0

    def _set_goal(self, command: Array | None, state: ArmState) -> None:
        if command is None:
            if self._goal_x is None:
                self._goal_x = state.x.copy()
            return
        action = np.clip(command[:6], -1.0, 1.0)
        rotation = action[3:] * ROTATION_RAD
        if rotation.any():
            self._goal_R = _rotation_of(rotation) @ state.R
        self._goal_x = state.x + action[:3] * TRANSLATION_M

    def _measure(self) -> ArmState:
        """The arm as the last position stage left it; views, valid until the next one."""
        mujoco.mj_jacSite(self._model, self._data, self._J_lin, self._J_ang, self._site)
        mujoco.mj_fullM(self._model, self._M, self._qM)
        np.matmul(self._J, self._qvel, out=self._v)
        return self._now

    def _remember(self) -> ArmState:
        """A copy of the arm's state now, with the memory layout of `_measure` (numba compiles once)."""
        now, arm = self._measure(), self._dofs
        J, M = self._J.copy()[:, arm], self._M.copy()[arm, arm]
        return ArmState(now.x.copy(), now.R.copy(), now.q.copy(), now.qd.copy(), J, now.v.copy(), M)


def _rotation_of(rotation_vector: Array) -> Array:
    """3×3 rotation of a rotation vector, through a float32 quaternion as in robosuite 1.4.0."""
    angle = np.linalg.norm(rotation_vector)
    quat = np.empty(4)
    quat[0] = np.cos(angle / 2.0)
    quat[1:] = (rotation_vector / angle) * np.sin(angle / 2.0)
    return float32_rotation(quat)


def torque_numpy(x, R, q, qd, J, v, M, bias, goal_x, goal_R, rest, low, high, out) -> None:  # noqa: ANN001
    """Write the joint torques (7,) into `out`; the reference."""
    S = goal_R @ R.T
    e_o = 0.5 * np.array([S[2, 1] - S[1, 2], S[0, 2] - S[2, 0], S[1, 0] - S[0, 1]])
    F = KP * (goal_x - x) - KD * v[:3]
    T = KP * e_o - KD * v[3:]
    A = J @ np.linalg.inv(M)
    inertia = A @ J.T
    wrench = np.concatenate([np.linalg.solve(inertia[:3, :3], F), np.linalg.solve(inertia[3:, 3:], T)])
    posture = M @ (POSTURE_KP * (rest - q) - POSTURE_KD * qd)
    tau = J.T @ (wrench - np.linalg.solve(inertia, A @ posture)) + posture + bias
    np.clip(tau, low, high, out=out)


def _torque_function(backend: Backend) -> Callable[..., None]:
    if backend == "numpy":
        return torque_numpy
    from vla_bench.sim.controller_compiled import torque

    return torque
