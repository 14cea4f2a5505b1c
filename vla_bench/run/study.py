"""What is compared: a study, said by a TOML file in `tasks/studies/` or by the same keys as flags.

Nothing but the precisions of cards is looked up here; `plan.make_plan` says what is wrong with a study.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from vla_bench import catalog
from vla_bench.catalog import BudgetTable
from vla_bench.config import FileModel, parse, read_toml
from vla_bench.errors import DataError, UnknownNameError, VlaBenchError, suggest
from vla_bench.run.arms import Crossed, cross, first_precision, listed
from vla_bench.types import Arm, TaskAxis

LATER_KEYS = ("resample", "crossed", "namespace")
ARM_LISTS = ("policies", "precisions", "pacings", "latencies", "chunks")


class ArmTable(FileModel):
    """One `[[arm]]` table: an arm that is written out instead of crossed.

    Attributes:
        suites: Those that the arm is run on; empty for all of the study.
    """

    policy: str
    precision: str | None = None
    pacing: str = "blocking"
    latency: str = "zero"
    chunk_executed: int | None = Field(default=None, gt=0)
    suites: tuple[str, ...] = ()

    def arm(self) -> Arm:
        """The arm that the table describes."""
        precision = self.precision or first_precision(self.policy)
        return Arm(**{**self.model_dump(exclude={"suites"}), "precision": precision})


class Outputs(FileModel):
    """What is kept beside the records, of no, failed or all episodes, or of the first N of an arm.

    Attributes:
        video: Films of the first camera.
        record: What was seen and done at each step, as LeRobot data sets.
    """

    video: Literal["none", "failures", "all"] | Annotated[int, Field(ge=0)] = "none"
    record: Literal["none", "failures", "all"] | Annotated[int, Field(ge=0)] = "none"


class Statistics(FileModel):
    """How rates are reported; fixed before the run, and part of the hash.

    Attributes:
        interval: Of a rate.
        confidence: Of intervals; 1 - confidence is the level of tests.
        stop: Whether episodes are left out once a test that may be looked at any time has decided every
            comparison that they take part in (`run.stopping`).
    """

    interval: Literal["wilson"] = "wilson"
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    stop: Literal["never", "decided"] = "never"


class CrossedTable(FileModel):
    """`[crossed]`: which latency belongs to which weights, so that both can be told apart (table T4).

    Attributes:
        reference: The precision that the others are compared with.
        latencies: Precision → the latency of a policy with these weights, one of the study's latencies.
        cells: Whether weights are run with the latencies of all precisions, or only with their `own`, so that
            both change together; latencies that belong to no precision are run with all weights.
    """

    reference: str
    latencies: dict[str, str] = Field(min_length=2)
    cells: Literal["all", "own"] = "all"

    def has_cell(self, arm: Arm) -> bool:
        """Whether an arm is one that the table wants run."""
        own = self.latencies.get(arm.precision)
        return self.cells == "all" or own in (None, arm.latency) or arm.latency not in self.latencies.values()

    @model_validator(mode="after")
    def _knows_the_reference(self) -> CrossedTable:
        if self.reference not in self.latencies:
            known = suggest(self.reference, self.latencies)
            raise ValueError(f"reference = {self.reference!r} has no latency in crossed.latencies{known}")
        return self


class Study(FileModel):
    """Suites or tasks, variations, arms, episodes, statistics and outputs.

    Attributes:
        name: The file's stem; the results folder is called after it.
        suites, tasks: What is run: whole suites, and single tasks by id (`suite/stem`).
        task_axis: Keep only tasks that test one of these axes; empty keeps all.
        variations: Factors at levels, joined by `+`; "" is the unchanged task.
        uncertified: `refuse` variations without a certificate of feasibility, or `run` them all the same.
        policies, precisions, pacings, latencies, chunks: Crossed with each other; `precisions` are empty for
            the first of each card; `chunks` are executed chunk lengths, empty for what each card says.
        arm: Further arms, one by one.
        episodes: Episodes of each task and variation; None is as many as the suite declares.
        first_episode: Index of the first one: of an initial state where the suite has them, else a seed.
        namespace: Whose seeds they are: `eval`, or `select` for choosing between checkpoints, which no
            reported number uses.
        resample: Whether episodes beyond a suite's stored initial states are drawn from seeds; else they are
            refused.
        budget: Replaces the budget of every task.
        phase: Whether the world is ahead of the policy's clock by a part of a period that is drawn for each
            episode, the same for all arms (`drawn`), or by nothing (`none`).
        crossed: Which latency belongs to which precision. Without `precisions`, every policy has those of
            this table that its card lists; a policy with none of them has one set of weights.
    """

    name: str = Field(default="study", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    title: str = ""
    suites: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    task_axis: tuple[TaskAxis, ...] = ()
    variations: tuple[str, ...] = Field(default=("",), min_length=1)
    uncertified: Literal["refuse", "run"] = "refuse"
    policies: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    pacings: tuple[str, ...] = Field(default=("blocking",), min_length=1)
    latencies: tuple[str, ...] = Field(default=("zero",), min_length=1)
    chunks: tuple[Annotated[int, Field(gt=0)], ...] = ()
    arm: tuple[ArmTable, ...] = ()
    episodes: int | None = Field(default=None, gt=0)
    first_episode: int = Field(default=0, ge=0)
    namespace: Literal["eval", "select"] = "eval"
    resample: bool = False
    budget: BudgetTable | None = None
    phase: Literal["none", "drawn"] = "none"
    crossed: CrossedTable | None = None
    outputs: Outputs = Outputs()
    statistics: Statistics = Statistics()

    @property
    def arms(self) -> tuple[Arm, ...]:
        """The crossed arms, then the single ones, each once."""
        return tuple(dict.fromkeys([*self._crossed().arms, *(table.arm() for table in self.arm)]))

    def runs(self, arm: Arm, suite: str) -> bool:
        """Whether one of the study's arms is run on a suite."""
        named = [table.suites for table in self.arm if table.arm() == arm]
        if not named or arm in self._crossed().arms:
            return True
        return any(not suites or suite in suites for suites in named)

    @property
    def left_out(self) -> tuple[Arm, ...]:
        """The crossed arms whose policy has no such precision, while others of the study go on."""
        return self._crossed().left_out

    def _crossed(self) -> Crossed:
        rest = (self.pacings, self.latencies, self.chunks)
        table = self.crossed
        if table is None:
            return cross(self.policies, self.precisions, *rest)
        if self.precisions:
            made = [cross(self.policies, self.precisions, *rest)]
        else:
            made = [cross((policy,), listed(policy, table.latencies), *rest) for policy in self.policies]
        return Crossed(
            tuple(arm for part in made for arm in part.arms if table.has_cell(arm)),
            tuple(arm for part in made for arm in part.left_out if table.has_cell(arm)),
        )

    @property
    def hash(self) -> str:
        """SHA-256 of everything that the study fixes; its name and title may change freely."""
        content = self.model_dump(mode="json", exclude={"name", "title", "arm", *ARM_LISTS})
        for key in LATER_KEYS:  # a study that does not use them is the study that it was before they came
            if getattr(self, key) == type(self).model_fields[key].default:
                del content[key]
        if self.statistics.stop == "never":  # for the same reason
            del content["statistics"]["stop"]
        if self.outputs.record == "none":
            del content["outputs"]["record"]
        content["arms"] = [arm.key for arm in self.arms]
        if limited := {table.arm().key: table.suites for table in self.arm if table.suites}:
            content["suites_of_arms"] = limited
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @property
    def folder_name(self) -> str:
        """`<name>-<first 8 digits of the hash>`: where results go unless told otherwise."""
        return f"{self.name}-{self.hash[:8]}"


def load_study(name_or_path: str | Path | None = None, **changes: Any) -> Study:
    """Return a study by name or path, with keys replaced by `changes`, the flags; None is a flag not given.

    Without a name the flags alone are the study.

    Raises:
        UnknownNameError: No study has that name.
        DataError: A key is unknown or has an impossible value.
    """
    changes = {key: value for key, value in changes.items() if value is not None}
    if name_or_path is None:
        return parse(Study, _canonical(changes), "command line")
    path = _find(name_or_path)
    table = read_toml(path)
    if table.get("name", path.stem) != path.stem:
        raise DataError(path, f"name = {table['name']!r}, but a study is called like its file: {path.stem!r}")
    parse(Study, {**table, "name": path.stem}, path)  # the file's own mistakes are reported as the file's
    if "policies" in changes:
        table.pop("arm", None)
    elif "arm" in table and (flags := [key for key in ARM_LISTS if key in changes]):
        raise VlaBenchError(
            f"{path} writes its arms out one by one, so {' and '.join(flags)} cannot be changed alone; "
            f"name the policies too, and the arms are crossed anew"
        )
    source = f"{path} with flags" if changes else path
    if isinstance(table.get("outputs"), dict) and "outputs" in changes:  # one flag each
        changes["outputs"] = {**table["outputs"], **changes["outputs"]}
    return parse(Study, _canonical({**table, "name": path.stem, **changes}), source)


def _find(name_or_path: str | Path) -> Path:
    """The file of a study: a path where it looks like one, else a name of the catalog."""
    path = Path(name_or_path)
    if path.suffix == ".toml" or len(path.parts) > 1:
        return path
    known = catalog.studies()
    if str(name_or_path) not in known:
        raise UnknownNameError("study", str(name_or_path), known)
    return known[str(name_or_path)]


def _canonical(table: dict[str, Any]) -> dict[str, Any]:
    """Aliases `suite/<index>` become ids, so that both spellings are the same study."""
    tasks = table.get("tasks")
    if not isinstance(tasks, list | tuple):
        return table
    return {**table, "tasks": [_task_id(task) if isinstance(task, str) else task for task in tasks]}


def _task_id(name: str) -> str:
    suite_name, _, index = name.partition("/")
    suite = catalog.suites().get(suite_name)
    if suite is None or not index.isdecimal():
        return name
    stems = suite.stems()
    return f"{suite_name}/{stems[int(index)]}" if int(index) < len(stems) else name
