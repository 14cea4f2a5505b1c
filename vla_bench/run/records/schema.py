"""The record of an episode: the full schema, for every pacing, axis and policy."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from vla_bench.errors import VlaBenchError
from vla_bench.run.records.inferences import NO_INFERENCES, Inferences
from vla_bench.types import Arm, Episode, Split, Task, TaskAxis

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """What stopped an episode that is neither success nor failure."""

    type: str
    message: str
    traceback: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One arm on one episode: which it was, how it ended, and what it cost.

    Attributes:
        key: The work item's key.
        task_group: What the suite tells apart among its tasks, if anything.
        drawn: Values that the variation drew.
        status: `error` is the machinery's fault and is never counted as a failure.
        success_any, success_last: The goal held at some tick; at the last one. `status` goes by the first.
        score: Partial credit in [0, 1].
        cause: Why a failure ended: `horizon`, `time`, `fell`, `policy_nan`, ….
        steps: Accepted policy actions; `ticks`: of the simulation.
        simulated_s, task_s, wall_s: Physics time, time the robot spent on the task (thinking included where
            the pacing counts it), and time on the wall.
        budget_ended: Which limit of `budget` ended the episode, if one did.
        policy_hz: 1 / median latency of this episode's inferences.
        command_hz: Fresh commands per second of task time.
        jerk_m_s3: Mean norm of the jerk of the point between the finger tips; `path_length_m`: of its path.
        video: File below the run's folder.
        started_at: ISO 8601, UTC.
    """

    schema_version: Literal[1] = 1
    study_hash: str
    key: str

    task_id: str
    suite: str
    stem: str
    task_index: int
    task_axis: TaskAxis | None
    task_group: str = ""
    split: Split
    variation: str
    drawn: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None
    init_state: int | None
    instruction: str

    policy: str
    precision: str
    pacing: str
    latency: str
    chunk_executed: int | None

    status: Literal["success", "failure", "error"]
    success_any: bool
    success_last: bool
    score: float
    stages: tuple[str, ...] = ()
    cause: str | None = None

    steps: int
    ticks: int
    simulated_s: float
    task_s: float
    wall_s: float
    budget: str
    budget_ended: Literal["steps", "time"] | None = None

    policy_hz: float | None = None
    command_hz: float | None = None
    peak_device_memory_bytes: int | None = None
    jerk_m_s3: float | None = None
    path_length_m: float | None = None

    error: ErrorInfo | None = None
    video: str | None = None
    fingerprint: str | None = None
    worker: str
    started_at: str
    inferences: Inferences = NO_INFERENCES

    def __post_init__(self) -> None:
        if (self.seed is None) == (self.init_state is None):
            raise ValueError(f"exactly one of seed = {self.seed} and init_state = {self.init_state} is set")
        if (self.status == "error") != (self.error is not None):
            raise ValueError(f"status {self.status!r} with error = {self.error}: one belongs to the other")
        if (self.status == "failure") != (self.cause is not None):
            raise ValueError(
                f"status {self.status!r} with cause = {self.cause!r}: failures have one, others none"
            )
        if self.status != "error" and (self.status == "success") != self.success_any:
            raise ValueError(f"status {self.status!r}, but success_any = {self.success_any}")

    @classmethod
    def of(
        cls, *, arm: Arm, episode: Episode, task: Task, study_hash: str, key: str, **outcome: Any
    ) -> Record:
        """The record of `arm` on `episode`; `outcome` holds the remaining fields, and may replace any."""
        identity = {
            "study_hash": study_hash, "key": key,
            "task_id": task.id, "suite": task.suite, "stem": task.stem, "task_index": task.index,
            "task_axis": task.axis, "task_group": task.group, "split": task.split,
            "instruction": task.instruction, "budget": str(task.budget),
            "variation": episode.variation, "seed": episode.seed, "init_state": episode.init_state,
        }  # fmt: skip
        return cls(**{**identity, **asdict(arm), **outcome})

    @property
    def arm(self) -> Arm:
        """What acted."""
        return _arm(self.policy, self.precision, self.pacing, self.latency, self.chunk_executed)

    @property
    def episode(self) -> Episode:
        """The initial state; equal episodes of different arms are a pair."""
        return Episode(self.task_id, self.variation, self.seed, self.init_state)


@functools.lru_cache
def _arm(policy: str, precision: str, pacing: str, latency: str, chunk_executed: int | None) -> Arm:
    """An arm that many records share."""
    return Arm(policy, precision, pacing, latency, chunk_executed)


def check_schema(table: Any, what: str) -> None:
    """Refuse what another schema wrote, before its content is judged by this one."""
    version = table.get("schema_version") if isinstance(table, dict) else None
    if version == SCHEMA_VERSION:
        return
    if not isinstance(version, int):
        advice = "no vla-bench wrote it; choose another folder"
    elif version > SCHEMA_VERSION:
        advice = "update vla-bench to read it"
    else:
        advice = "run its study again, into another folder"
    raise VlaBenchError(
        f"{what} has schema version {version}, this vla-bench reads {SCHEMA_VERSION}; {advice}"
    )
