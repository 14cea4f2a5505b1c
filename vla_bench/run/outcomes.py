"""What is recorded of an episode that was played, or could not be."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

import numpy as np

from vla_bench.run.records import ErrorInfo, Inferences
from vla_bench.types import Array

if TYPE_CHECKING:
    from vla_bench.run.rollout import Rollout


def not_played(error: Exception) -> dict[str, Any]:
    """The outcome of an episode that could not begin: its scene cannot be built or reset."""
    nothing = dict.fromkeys(("steps", "ticks", "simulated_s", "task_s", "wall_s", "score"), 0)
    return {**as_error(error), **nothing, "success_any": False, "success_last": False}


def as_error(error: Exception) -> dict[str, Any]:
    """What stopped an episode and was nobody's failure."""
    text = "".join(traceback.format_exception(error))
    return {"status": "error", "error": ErrorInfo(type(error).__name__, str(error), text)}


def measures(run: Rollout) -> dict[str, Any]:
    """What an episode came to, whichever way it ended."""
    simulation, inferences = run.simulation, Inferences(**{k: tuple(v) for k, v in run.inferences.items()})
    totals = inferences.latencies_ms()
    median_ms = float(np.median(totals)) if len(totals) else 0.0
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
        "task_s": run.task_s,
        "budget_ended": run.ended_by,
        "policy_hz": 1e3 / median_ms if median_ms > 0 else None,
        "command_hz": run.steps / run.task_s if run.ticks else None,
        "inferences": inferences,
        **_smoothness(np.array(run.grip_path), simulation.task.policy_period_s),
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
