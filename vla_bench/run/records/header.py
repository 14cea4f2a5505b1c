"""The header of a run (`run.json`): what was to be run, and the sessions that ran it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, NonNegativeInt, model_validator
from pydantic_core import from_json

from vla_bench.config import FileModel, parse
from vla_bench.errors import DataError, MissingDataError
from vla_bench.run.records.schema import check_schema
from vla_bench.types import Arm, PrecisionReport, StaleRule

HEADER_FILE = "run.json"


class Assets(FileModel):
    """State of the pictures and meshes that the run used: files that stand in for others, and absent ones."""

    stand_ins: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


class Loaded(FileModel):
    """What a policy's precision came to where it was loaded."""

    policy: str
    report: PrecisionReport


class Session(FileModel):
    """One call of `run` on a folder: everything around it that changes pixels, physics or numerics.

    Attributes:
        started_at: ISO 8601, UTC.
        command: The command line.
        git_commit, git_dirty: Of the package's own checkout, if it lives in one.
        versions: Distribution name to version.
        device: Where policies ran; `driver` is its driver's version, where it has one.
        assets: None where no suite needs any.
        fingerprint: Of golden frames and settled poses.
        loaded: One for each policy and precision that has numbers to be precise about.
        checkpoints: Policy → file of its checkpoint → SHA-256; of every policy that was loaded from files.
    """

    started_at: str
    command: tuple[str, ...]
    git_commit: str | None
    git_dirty: bool | None
    versions: dict[str, str]
    python: str
    platform: str
    device: str
    driver: str | None = None
    gl_renderer: str | None = None
    assets: Assets | None = None
    fingerprint: str | None = None
    loaded: tuple[Loaded, ...] = ()
    checkpoints: dict[str, dict[str, str]] = Field(default_factory=dict)


class ExpertRate(FileModel):
    """How often the scripted expert solved a task under a variation when that was certified as feasible."""

    n: NonNegativeInt
    successes: NonNegativeInt

    @model_validator(mode="after")
    def _not_more_successes_than_episodes(self) -> ExpertRate:
        if self.successes > self.n:
            raise ValueError(f"{self.successes} successes of {self.n} episodes")
        return self


class PublishedRate(FileModel):
    """A published result of a policy on a suite, as its card has it; in the unit of `metric`."""

    suite: str
    metric: str
    value: float
    stderr: float | None = None
    trials: int | None = None
    source: str
    note: str = ""


class LatencyUsed(FileModel):
    """A latency source.

    Attributes:
        deterministic: Whether the same run again has the same delays.
        content: Digest of the file that it reads.
        median_ms: Of the delays, where it was known before the run.
    """

    deterministic: bool = True
    median_ms: float | None = None
    content: str = ""


class Decided(FileModel):
    """A comparison of two arms on a suite and variation that was decided while the run went on.

    Attributes:
        wins, losses: Pairs that only the better arm, and only the worse one, succeeded in by then.
        pairs: Pairs by then, without those an error broke.
        episodes: Episodes of the plan by then; `planned` are all.
        p_value: Valid at any time of looking, before any correction; decided at or below `level`.
    """

    suite: str
    variation: str
    better: Arm
    worse: Arm
    wins: NonNegativeInt
    losses: NonNegativeInt
    pairs: NonNegativeInt
    episodes: NonNegativeInt
    planned: NonNegativeInt
    p_value: float
    level: float


class RunHeader(FileModel):
    """What was to be run, and every session that ran a part of it.

    Attributes:
        study: The study with all defaults filled in.
        plan_hash: Of the work items; differs where a suite changed under the same study.
        planned: Number of work items.
        arms: In the order of the study.
        sessions: The first, and those that continued it.
        certificates: Those of what was planned, by `task_id|variation`; `task_id|` is the unvaried task.
        published: Task id → the published task that it mirrors, where it mirrors one.
        latencies: Those of the arms, by name.
        stale: Suite → what its robot does while no fresh action is there, where a pacing lets that happen.
        periods_s: Suite → length of a policy step.
        moving: `task_id|variation` of those whose target moves by itself; None in headers that do not say.
        references: Policy → its published results on the suites of the run.
        decided: What a study that stops once it has decided had decided when it was last run.
        surplus: Keys of the records of items that were not needed any more: workers were already at them.
    """

    schema_version: Literal[1] = 1
    study_name: str
    study_hash: str
    plan_hash: str
    planned: int
    study: dict[str, Any]
    arms: tuple[Arm, ...]
    sessions: tuple[Session, ...]
    certificates: dict[str, ExpertRate] = Field(default_factory=dict)
    published: dict[str, str] = Field(default_factory=dict)
    latencies: dict[str, LatencyUsed] = Field(default_factory=dict)
    stale: dict[str, StaleRule] = Field(default_factory=dict)
    periods_s: dict[str, float] = Field(default_factory=dict)
    moving: tuple[str, ...] | None = None
    references: dict[str, tuple[PublishedRate, ...]] = Field(default_factory=dict)
    decided: tuple[Decided, ...] = ()
    surplus: tuple[str, ...] = ()


def read_header(folder: Path) -> RunHeader:
    """Return the header of a results folder.

    Raises:
        MissingDataError: There is none.
        DataError: It is broken.
        VlaBenchError: It is of another schema.
    """
    path = folder / HEADER_FILE
    try:
        table = from_json(path.read_bytes())
    except FileNotFoundError as error:
        raise MissingDataError(f"{folder} is not a results folder: it holds no {HEADER_FILE}") from error
    except (OSError, ValueError) as error:
        raise DataError(path, f"cannot be read: {error}") from error
    check_schema(table, str(path))
    return parse(RunHeader, table, path)
