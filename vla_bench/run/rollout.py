"""One episode: a policy acts in a simulation until success, the end of its budget, or an error.

The loop knows nothing of records, videos or tables. How simulated time relates to thinking is the pacing's
business; a pacing is a function of a `Rollout`.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from vla_bench.errors import ConventionError
from vla_bench.policy.base import Policy
from vla_bench.run.records import ErrorInfo, Inferences
from vla_bench.types import Array, CameraView, Episode, Observation, Simulation

PHASES = ("preprocess", "inference", "postprocess")


class PolicyFailure(Exception):  # noqa: N818  (the policy's fault, not an error)
    """What the policy did wrong; the episode is a failure with this cause."""

    def __init__(self, cause: str, detail: str) -> None:
        self.cause = cause
        super().__init__(detail)


@dataclass
class Rollout:
    """The state of an episode that is running.

    Attributes:
        simulation, policy: Who takes part.
        chunk_executed: How many actions of a chunk are executed before the next inference.
        on_step: Called after every policy step, for example to record a frame.
        steps, ticks: Accepted actions and simulation ticks so far.
        succeeded: Whether the goal held after some tick.
        ended_by: The limit of the budget that ended the episode.
    """

    simulation: Simulation
    policy: Policy
    chunk_executed: int = 1
    on_step: Callable[[], None] = lambda: None
    steps: int = 0
    ticks: int = 0
    succeeded: bool = False
    ended_by: Literal["steps", "time"] | None = None
    latencies_ms: dict[str, list[float]] = field(default_factory=lambda: {phase: [] for phase in PHASES})
    _observed: dict[int, Observation] = field(default_factory=dict)  # by the steps before it
    _grip_path: list[Array] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        """Whether nothing more is to be done."""
        return self.succeeded or self.ended_by is not None

    def start(self) -> None:
        """Let the scene settle as the task's protocol says; not counted, and success does not count yet."""
        task = self.simulation.task
        command = np.array(task.settle_action)
        for _ in range(task.settle_steps):
            for tick in range(task.ticks_per_step):
                self.simulation.tick(command if tick == 0 else None)

    def infer(self) -> Array:
        """Observe, ask the policy, and return the (T, A) actions.

        Raises:
            PolicyFailure: An action is not a finite number.
            ConventionError: The chunk has another shape than the simulation's actions.
        """
        observations = self._history()
        began = time.perf_counter()
        chunk = self.policy.act(observations)
        total_ms = (time.perf_counter() - began) * 1e3
        measured = chunk.timings_ms or {"inference": total_ms}
        for phase in PHASES:
            self.latencies_ms[phase].append(float(measured.get(phase, 0.0)))
        actions = np.asarray(chunk.actions, dtype=np.float64)
        check_chunk(self.simulation, self.policy, actions)
        if not np.isfinite(actions).all():
            raise PolicyFailure("policy_nan", f"action {actions[~np.isfinite(actions).all(axis=1)][0]}")
        return actions

    def step(self, action: Array) -> None:
        """Execute one action for a policy period, or until the goal holds or the time is over."""
        for tick in range(self.simulation.task.ticks_per_step):
            self.tick(action if tick == 0 else None)
            if self.ended:
                break
        self.steps += 1
        budget = self.simulation.task.budget
        if not self.ended and budget.steps is not None and self.steps >= budget.steps:
            self.ended_by = "steps"
        self._grip_path.append(self.simulation.observe().proprio["robot0_eef_pos"])
        self.on_step()

    def tick(self, command: Array | None) -> None:
        """Advance the simulation by one tick and test success and the time budget."""
        self.simulation.tick(command)
        self.ticks += 1
        self.succeeded = self.succeeded or self.simulation.succeeded
        budget = self.simulation.task.budget
        if not self.succeeded and budget.time_s is not None and self.simulated_s >= budget.time_s - 1e-9:
            self.ended_by = "time"

    def look_ahead(self, steps_to_inference: int, interval: int) -> None:
        """Keep the observation of now if an inference to come wants it in its history.

        Args:
            steps_to_inference: Steps until the next one.
            interval: Steps from one to the next thereafter.
        """
        spec = self.policy.spec
        if spec.history == 1 or steps_to_inference == 0:  # the inference itself observes
            return
        later = [age * self._stride() - steps_to_inference for age in range(1, spec.history)]
        if any(steps >= 0 and steps % interval == 0 for steps in later):
            self._observed[self.steps] = self._observe()

    @property
    def simulated_s(self) -> float:
        """Physics time since the start, settling not counted."""
        return self.ticks * self.simulation.task.tick_s

    def _history(self) -> list[Observation]:
        """The observations that the spec asks for; the first one stands in for those before the start."""
        spec = self.policy.spec
        stride = self._stride() if spec.history > 1 else 1
        self._observed[self.steps] = self._observe()
        wanted = [max(0, self.steps - age * stride) for age in reversed(range(spec.history))]
        self._observed = {step: seen for step, seen in self._observed.items() if step >= wanted[0]}
        return [self._observed[step] for step in wanted]

    def _observe(self) -> Observation:
        spec = self.policy.spec
        views = [CameraView(name, *spec.image_px) for name in spec.cameras]
        return self.simulation.observe(views, privileged=spec.privileged)

    def _stride(self) -> int:
        """Policy steps between the observations of a history."""
        period = self.simulation.task.policy_period_s
        steps = self.policy.spec.history_stride_s / period
        if steps < 1 - 1e-9 or abs(steps - round(steps)) > 1e-9:
            raise ConventionError(
                f"the policy wants observations every {self.policy.spec.history_stride_s} s, which is no "
                f"multiple of the policy period {period} s of {self.simulation.task.id}"
            )
        return round(steps)


def blocking(run: Rollout) -> None:
    """The simulation stands still while the policy thinks, so success cannot depend on latency."""
    while not run.ended:
        actions = run.infer()[: run.chunk_executed]
        for index, action in enumerate(actions):
            run.step(action)
            if run.ended:
                return
            run.look_ahead(len(actions) - 1 - index, len(actions))


PACINGS: Mapping[str, Callable[[Rollout], None]] = {"blocking": blocking}


def check_chunk(simulation: Simulation, policy: Policy, actions: Array) -> None:
    """Compare a chunk's shape with what the policy declares and the simulation takes.

    Raises:
        ConventionError: They differ; both shapes are named.
    """
    wanted = (policy.spec.chunk_length, simulation.action_size)
    if actions.shape != wanted:
        raise ConventionError(
            f"actions have shape {actions.shape}; the policy declares {wanted[0]} at a time and "
            f"{simulation.task.id} takes {wanted[1]} numbers each, so shape {wanted} is expected"
        )


def play(run: Rollout, episode: Episode, pacing: str, policy_seed: int) -> dict[str, Any]:
    """Run one episode and return the outcome's fields of a record.

    Nothing that goes wrong in it escapes: what the policy did wrong is a failure with a cause, everything
    else an error with its traceback.
    """
    began = time.perf_counter()
    outcome: dict[str, Any] = {}
    try:
        run.simulation.reset(episode)
    except Exception as error:  # what the simulation could tell is still that of the episode before
        return not_played(error) | {"wall_s": time.perf_counter() - began}
    try:
        run.policy.reset(run.simulation.observe().instruction, policy_seed)
        run.start()
        PACINGS[pacing](run)
    except PolicyFailure as failure:
        outcome = {"status": "failure", "cause": failure.cause}
    except Exception as error:
        outcome = _as_error(error)
    else:
        limit = {"steps": "horizon", "time": "time", None: None}[run.ended_by]
        outcome = {"status": "success" if run.succeeded else "failure", "cause": limit}
    return outcome | _measures(run) | {"wall_s": time.perf_counter() - began}


def not_played(error: Exception) -> dict[str, Any]:
    """The outcome of an episode that could not begin: its scene cannot be built or reset."""
    nothing = dict.fromkeys(("steps", "ticks", "simulated_s", "task_s", "wall_s", "score"), 0)
    return {**_as_error(error), **nothing, "success_any": False, "success_last": False}


def _as_error(error: Exception) -> dict[str, Any]:
    text = "".join(traceback.format_exception(error))
    return {"status": "error", "error": ErrorInfo(type(error).__name__, str(error), text)}


def _measures(run: Rollout) -> dict[str, Any]:
    simulation, totals = run.simulation, [sum(ms) for ms in zip(*run.latencies_ms.values(), strict=True)]
    median_ms = float(np.median(totals)) if totals else 0.0
    calls = len(totals)
    return {
        "instruction": simulation.observe().instruction,
        "success_any": run.succeeded,
        "success_last": simulation.succeeded,
        "score": 1.0 if run.succeeded else simulation.score,
        "stages": simulation.stages,
        "drawn": dict(simulation.drawn),
        "steps": run.steps,
        "ticks": run.ticks,
        "simulated_s": run.simulated_s,
        "task_s": run.simulated_s,
        "budget_ended": run.ended_by,
        "policy_hz": 1e3 / median_ms if median_ms > 0 else None,
        "command_hz": run.steps / run.simulated_s if run.ticks else None,
        "inferences": Inferences(
            **{f"{phase}_ms": tuple(ms) for phase, ms in run.latencies_ms.items()},
            observation_age_ms=(0.0,) * calls,
            staleness_ms=(0.0,) * calls,
        ),
        **_smoothness(np.array(run._grip_path), simulation.task.policy_period_s),
    }


def _smoothness(path: Array, period_s: float) -> dict[str, float | None]:
    """Length and mean jerk of the gripper's path, sampled once a policy period."""
    if len(path) < 4:
        return {"jerk_m_s3": None, "path_length_m": None}
    jerk = np.diff(path, n=3, axis=0) / period_s**3
    return {
        "jerk_m_s3": float(np.linalg.norm(jerk, axis=1).mean()),
        "path_length_m": float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum()),
    }
