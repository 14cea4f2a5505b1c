"""Finds suites, tasks, policies and studies: one file or table each, by path; there is no other registry.

Data lies in `tasks/` and `policies/` at the top of the repository, or under the package in a wheel. Further
folders come from the environment (`VLA_BENCH_TASKS_DIR`, `VLA_BENCH_POLICIES_DIR`, several joined by the path
separator; the command line sets them with `--tasks-dir` and `--policies-dir`).
"""

from __future__ import annotations

import functools
import os
import re
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, model_validator

from vla_bench.bddl import IN_HAND, LET_GO, read_problem
from vla_bench.config import FileModel, parse, read_toml
from vla_bench.errors import DataError, MissingDataError, UnknownNameError
from vla_bench.types import Budget, Engine, Split, StaleRule, Task, TaskAxis

TASKS_DIR_VARIABLE = "VLA_BENCH_TASKS_DIR"
POLICIES_DIR_VARIABLE = "VLA_BENCH_POLICIES_DIR"
LIBERO_VARIABLE = "VLA_BENCH_LIBERO"

# What Gymnasium takes as an id; at least one letter, because `suite/<index>` is an alias.
STEM = r"^[\w.-]*[^\W\d][\w.-]*$"


class BudgetTable(FileModel):
    """`{ steps = 220 }`, `{ time_s = 12.0 }`, or both: whichever ends first."""

    steps: int | None = Field(default=None, gt=0)
    time_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _one_is_set(self) -> BudgetTable:
        if self.steps is None and self.time_s is None:
            raise ValueError("a budget needs steps or time_s")
        return self


class SuccessTable(FileModel):
    """`{ hold_s = 0.4, open_gripper = true }`: what a goal must do to count beyond holding once."""

    hold_s: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    open_gripper: bool = False


class SceneTable(FileModel):
    """`{ instruction = "…", options = { … } }`: another engine's task, and its name there."""

    instruction: str = Field(min_length=1)
    options: dict[str, str]


class Part(FileModel):
    """`{ folder = "franka/narrow_out", group = "narrow", split = "ood" }`: tasks alike in these."""

    folder: str = ""
    axis: TaskAxis | None = None
    group: str = Field(default="", pattern=r"^[\w-]*$")
    split: Split = "id"


class Suite(FileModel):
    """A suite as its table in a TOML file declares it.

    `folder` holds one BDDL file a task; `tasks` fixes the order (default: sorted). A suite that spans the
    axes names `folders` instead, axis → folder, and a task's axis is that of its folder; one whose tasks
    differ in split or group names its `parts`. `${libero}` stands for LIBERO's data folder; a relative folder
    is relative to the TOML file. `like` names a suite of the same file: what the table leaves out is as
    there. `stale` is what the robot does while it waits for a late action: without it the suite cannot run in
    real time.

    A suite that another simulator steps names an `engine` (`module:callable`, see `types.Engine`) and its
    tasks as `scenes` instead of folders.
    """

    name: str = Field(pattern=r"^\w[\w-]*$")
    source: Path
    title: str = ""
    folder: str | None = None
    folders: dict[TaskAxis, str] = Field(default_factory=dict)
    parts: tuple[Part, ...] = ()
    engine: str | None = Field(default=None, pattern=r"^[\w.]+:\w+$")
    scenes: dict[Annotated[str, Field(pattern=STEM)], SceneTable] = Field(default_factory=dict)
    action_convention: str = "delta_pose"
    init_states: str | None = None
    episodes: int = Field(default=50, gt=0)
    instruction: Literal["file_name", "language"] = "language"
    budget: BudgetTable
    substep_s: float = Field(default=0.002, gt=0, allow_inf_nan=False)
    tick_s: float = Field(gt=0, allow_inf_nan=False)
    policy_period_s: float = Field(gt=0, allow_inf_nan=False)
    settle_steps: int = Field(default=0, ge=0)
    stale: StaleRule | None = None
    success: SuccessTable = SuccessTable()
    observation_px: tuple[PositiveInt, PositiveInt] = (256, 256)
    cameras: tuple[str, ...] = Field(min_length=1)
    split: Split = "id"
    task_axis: TaskAxis | None = None
    tasks: tuple[Annotated[str, Field(pattern=STEM)], ...] | None = None

    @model_validator(mode="after")
    def _lengths_divide(self) -> Suite:
        for short, long in (("substep_s", "tick_s"), ("tick_s", "policy_period_s")):
            ratio = getattr(self, long) / getattr(self, short)
            if abs(ratio - round(ratio)) > 1e-9 or round(ratio) < 1:
                raise ValueError(
                    f"{long} = {getattr(self, long)} is not a multiple of {short} = {getattr(self, short)}"
                )
        return self

    @model_validator(mode="after")
    def _tasks_differ(self) -> Suite:
        if self.tasks == ():
            raise ValueError("tasks is empty; leave it out to have every task of the folder")
        twice = [stem for stem, count in Counter(self.tasks or ()).items() if count > 1]
        if twice:
            raise ValueError(f"tasks names {', '.join(twice)} more than once")
        return self

    @model_validator(mode="after")
    def _has_folders(self) -> Suite:
        places = [self.folder is not None, *map(bool, (self.folders, self.parts, self.scenes))]
        if places.count(True) != 1:
            raise ValueError(
                "a suite needs either folder or folders (axis → folder) or parts or scenes (task → scene)"
            )
        if bool(self.scenes) != (self.engine is not None):
            raise ValueError("scenes and engine belong together")
        if self.scenes and self.tasks is not None:
            raise ValueError("tasks belongs to a suite with one folder; the scenes are these tasks")
        if (self.folders or self.parts) and (self.task_axis is not None or self.tasks is not None):
            raise ValueError(
                "task_axis and tasks belong to a suite with one folder; these have theirs by axis"
            )
        if self.parts and "split" in self.model_fields_set:
            raise ValueError("each of its parts has a split; the suite has none")
        return self

    @property
    def divisions(self) -> tuple[Part, ...]:
        """What its tasks are divided into: its parts, its axes, or all of it."""
        if self.folders:
            return tuple(
                Part(folder=folder, axis=axis, split=self.split) for axis, folder in self.folders.items()
            )
        return self.parts or (Part(folder=self.folder or "", axis=self.task_axis, split=self.split),)

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits that its tasks are of, each once."""
        return tuple(dict.fromkeys(part.split for part in self.divisions))

    @property
    def places(self) -> tuple[Path, ...]:
        """Folders of its tasks.

        Raises:
            MissingDataError: The suite needs LIBERO's data and it is not there.
        """
        return tuple(self.path(part.folder) for part in self.divisions if part.folder)

    @property
    def needs_libero(self) -> bool:
        """Whether the suite lives in LIBERO's data folder."""
        return "${libero}" in (self.folder or "")

    def path(self, text: str) -> Path:
        """Resolve a folder named in the suite's file."""
        if "${libero}" in text:
            return Path(text.replace("${libero}", str(libero_root())))
        return (self.source.parent / text).resolve()

    def stems(self) -> tuple[str, ...]:
        """Task stems in order; needs the folder only where the file does not list them."""
        return tuple(self.divided())

    def axes(self) -> dict[str, TaskAxis | None]:
        """Task stem → the axis that it tests, in the suite's order."""
        return {stem: part.axis for stem, part in self.divided().items()}

    def divided(self) -> dict[str, Part]:
        """Task stem → the division that it belongs to, in the suite's order.

        Raises:
            MissingDataError: A folder holds no task.
            DataError: Two folders hold tasks of one name.
        """
        if self.tasks is not None or self.scenes:
            return dict.fromkeys(self.tasks or self.scenes, self.divisions[0])
        found: dict[str, Part] = {}
        for part in self.divisions:
            folder = self.path(part.folder)
            stems = sorted(p.stem for p in folder.glob("*.bddl"))
            if not stems:
                raise MissingDataError(
                    f"{self.source}: suite {self.name!r} names {folder}, which holds no .bddl file"
                )
            for stem in stems:
                if not re.fullmatch(STEM, stem):
                    problem = "the name of a task holds letters, digits, '_', '-' and '.', but no spaces"
                    raise DataError(folder / f"{stem}.bddl", problem)
                if stem in found:
                    raise DataError(self.source, f"{self.name}/{stem} is in two of the suite's folders")
                found[stem] = part
        return found

    def task(self, stem: str) -> Task:
        """Build the task called `stem`."""
        divided = self.divided()
        if stem not in divided:
            raise UnknownNameError("task", f"{self.name}/{stem}", [f"{self.name}/{s}" for s in divided])
        part, scene = divided[stem], self.scenes.get(stem)
        source = self.source if scene is not None else self.path(part.folder) / f"{stem}.bddl"
        problem = read_problem(source) if scene is None and self.instruction == "language" else None
        said = words_of(stem) if problem is None else problem.language
        init = None if self.init_states is None else self.path(self.init_states) / f"{stem}.pruned_init"
        # What must be in the hand cannot be let go.
        asked = set() if problem is None else {literal.name for literal in problem.goal}
        lets_go = bool(asked & LET_GO) and not asked & IN_HAND
        return Task(
            suite=self.name, stem=stem, index=list(divided).index(stem), source=source,
            instruction=said if scene is None else scene.instruction,
            budget=Budget(self.budget.steps, self.budget.time_s),
            substep_s=self.substep_s, tick_s=self.tick_s, policy_period_s=self.policy_period_s,
            engine=self._engine(stem), action_convention=self.action_convention,
            split=part.split, axis=part.axis, group=part.group,
            published="" if problem is None else problem.published,
            init_states=init, settle_steps=self.settle_steps, stale=self.stale,
            success_hold_s=self.success.hold_s,
            success_open_gripper=self.success.open_gripper and lets_go,
            observation_height_px=self.observation_px[0], observation_width_px=self.observation_px[1],
            cameras=self.cameras,
        )  # fmt: skip

    def _engine(self, stem: str) -> Engine | None:
        if self.engine is None:
            return None
        return Engine(self.engine, tuple(self.scenes[stem].options.items()))


def words_of(stem: str) -> str:
    """The instruction in a file's name, as LIBERO's benchmark reads it."""
    return re.sub(r"^[A-Z_]+_SCENE\d+_", "", stem).replace("_", " ")


def data_folders(kind: Literal["tasks", "policies"]) -> list[Path]:
    """Folders that hold the given kind of data: the user's first, then the shipped one."""
    variable = TASKS_DIR_VARIABLE if kind == "tasks" else POLICIES_DIR_VARIABLE
    extra = [Path(p) for p in os.environ.get(variable, "").split(os.pathsep) if p]
    for folder in extra:
        if not folder.is_dir():
            raise MissingDataError(f"{variable} names {folder}, which is not a folder")
    package = Path(__file__).parent
    shipped = next((p for p in (package / "data" / kind, package.parent / kind) if p.is_dir()), None)
    if shipped is None:
        raise MissingDataError(f"the shipped {kind}/ folder is missing beside {package}; reinstall vla-bench")
    return [*extra, shipped]


def libero_root() -> Path:
    """LIBERO's data folder: `VLA_BENCH_LIBERO`, else what `vla-bench assets libero` fetched.

    Raises:
        MissingDataError: Neither exists; says how to get the data.
    """
    named = os.environ.get(LIBERO_VARIABLE)
    root = Path(named) if named else libero_cache()
    if (root / "bddl_files").is_dir() and (root / "assets").is_dir():
        return root.resolve()
    found = (
        f"{LIBERO_VARIABLE}={named} is not LIBERO's data folder"
        if named
        else "LIBERO's data is not installed"
    )
    raise MissingDataError(
        f"{found} (a folder with assets/, bddl_files/ and init_files/); run `vla-bench assets libero`, "
        f"or set {LIBERO_VARIABLE} to a folder that holds it"
    )


def libero_cache() -> Path:
    """Where `vla-bench assets libero` puts LIBERO's data."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "vla_bench" / "libero"


def suites() -> dict[str, Suite]:
    """All suites by name, in the order of files and tables."""
    return _suites(tuple(data_folders("tasks")))


@functools.lru_cache(maxsize=8)
def _suites(folders: tuple[Path, ...]) -> dict[str, Suite]:
    found: dict[str, Suite] = {}
    for folder in folders:
        for path in sorted(folder.glob("*.toml")):
            tables = read_toml(path)
            for name, table in tables.items():
                if not isinstance(table, dict):
                    raise DataError(path, f"{name} = {table!r} stands outside a suite's table")
                if name in found:
                    raise DataError(path, f"suite {name!r} is already defined in {found[name].source}")
                table = _completed(path, tables, table)
                found[name] = parse(Suite, table, path, at=name, given={"name": name, "source": path})
    return found


def _completed(path: Path, tables: dict[str, Any], table: dict[str, Any]) -> dict[str, Any]:
    """A suite's table with what it takes from the one that it is `like`."""
    if "like" not in table:
        return table
    others = {
        name: other for name, other in tables.items() if isinstance(other, dict) and "like" not in other
    }
    if table["like"] not in others:
        raise UnknownNameError("suite to be like", str(table["like"]), others, where=str(path))
    return {**others[table["like"]], **{key: value for key, value in table.items() if key != "like"}}


def suite(name: str) -> Suite:
    """The suite called `name`."""
    known = suites()
    if name not in known:
        raise UnknownNameError("suite", name, known)
    return known[name]


def task(name: str) -> Task:
    """The task with id `suite/stem`, or with the alias `suite/<index>`.

    Raises:
        UnknownNameError: No such suite or task.
    """
    suite_name, _, stem = name.partition("/")
    found = suite(suite_name)
    if not stem:
        raise UnknownNameError("task", name, [f"{suite_name}/{s}" for s in found.stems()])
    if stem.isdecimal():
        stems = found.stems()
        if int(stem) >= len(stems):
            raise UnknownNameError("task", name, [f"{suite_name}/{i}" for i in range(len(stems))])
        stem = stems[int(stem)]
    return found.task(stem)


def studies() -> dict[str, Path]:
    """Study files by name."""
    return {
        p.stem: p
        for folder in reversed(data_folders("tasks"))
        for p in sorted((folder / "studies").glob("*.toml"))
    }


def latency_files(
    suffix: Literal[".toml", ".parquet"], part: Literal["", "work", "devices"] = ""
) -> dict[str, Path]:
    """Latencies by name: models of published ones (`.toml`) and traces of measured ones (`.parquet`).

    The parts of rooflines are what a policy has to do (`work`) and how fast `devices` are.
    """
    return {
        p.stem: p
        for folder in reversed(data_folders("tasks"))
        for p in sorted((folder / "latencies" / part).glob(f"*{suffix}"))
    }


def policy_files() -> dict[str, Path]:
    """Policy cards by name."""
    return {p.stem: p for folder in reversed(data_folders("policies")) for p in sorted(folder.glob("*.toml"))}
