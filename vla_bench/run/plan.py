"""The plan of a study: every work item in order, known and checked before anything runs."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from vla_bench import catalog
from vla_bench.catalog import Suite
from vla_bench.errors import UnknownNameError, VlaBenchError
from vla_bench.policy.cards import Card, read_card
from vla_bench.run.latency import latency_source
from vla_bench.run.study import Study
from vla_bench.run.timing import budget_problems, crossed_problems, timing_problems
from vla_bench.run.varied import Omission, Varied, noting, vary
from vla_bench.types import Arm, Budget, Episode, Task


class PlanError(VlaBenchError):
    """A study that cannot be run, with everything that is wrong with it."""

    def __init__(self, study: Study, problems: list[str]) -> None:
        self.problems = tuple(problems)
        head = f"study {study.name!r} cannot be run"
        super().__init__(
            f"{head}: {problems[0]}" if len(problems) == 1 else "\n- ".join([f"{head}:", *problems])
        )


@dataclass(frozen=True, slots=True)
class WorkItem:
    """One arm on one episode.

    Attributes:
        arm: What acts.
        episode: The initial state.
        budget: When the episode ends without success.
        key: Hash of all of these and of the task's lengths: the same key is the same work.
    """

    arm: Arm
    episode: Episode
    budget: Budget
    key: str

    def task(self) -> Task:
        """The task under this item's budget; needs the task's files."""
        return dataclasses.replace(catalog.task(self.episode.task_id), budget=self.budget)


@dataclass(frozen=True, slots=True)
class Plan:
    """A study and its work items: task by task, and all arms of an episode one after the other.

    Where the study stops once it has decided, suite by suite in rounds of one episode of every task.

    `omitted` are variations that the study's patterns name and that do not apply.
    """

    study: Study
    items: tuple[WorkItem, ...]
    omitted: tuple[Omission, ...] = ()

    @property
    def hash(self) -> str:
        """SHA-256 of the items' keys: changes when a suite's tasks, budgets or lengths change."""
        return hashlib.sha256("\n".join(item.key for item in self.items).encode()).hexdigest()

    def summary(self) -> list[dict[str, Any]]:
        """Counts of each suite (`suite`, `tasks`, `episodes`, `arms`, `items`), then of all as `total`."""
        by_suite: dict[str, list[WorkItem]] = {}
        for item in self.items:
            by_suite.setdefault(item.episode.task_id.partition("/")[0], []).append(item)
        groups = [*by_suite.items(), ("total", list(self.items))]
        return [
            {
                "suite": name,
                "tasks": len({item.episode.task_id for item in items}),
                "episodes": len({item.episode for item in items}),
                "arms": len({item.arm for item in items}),
                "items": len(items),
            }
            for name, items in groups
        ]

    def variations(self) -> list[dict[str, Any]]:
        """Counts of each variation: `tasks`, `episodes`, and for how many tasks it is `left_out`."""
        counts: dict[str, list[Episode]] = {}
        for item in self.items:
            counts.setdefault(item.episode.variation, []).append(item.episode)
        left_out = Counter(omission.variation for omission in self.omitted)
        return [
            {
                "variation": variation or "none",
                "tasks": len({episode.task_id for episode in counts.get(variation, ())}),
                "episodes": len(set(counts.get(variation, ()))),
                "left_out": left_out[variation],
            }
            for variation in dict.fromkeys([*counts, *left_out])
        ]

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON values."""
        return {
            "study": self.study.model_dump(mode="json"),
            "study_hash": self.study.hash,
            "plan_hash": self.hash,
            "summary": self.summary(),
            "variations": self.variations(),
            "arms_left_out": [dataclasses.asdict(arm) for arm in self.study.left_out],
            "omitted": [dataclasses.asdict(omission) for omission in self.omitted],
            "items": [
                {
                    "key": item.key,
                    "arm": dataclasses.asdict(item.arm),
                    "episode": dataclasses.asdict(item.episode),
                    "budget": str(item.budget),
                }
                for item in self.items
            ],
        }


def make_plan(study: Study) -> Plan:
    """Return the plan of `study`; the suites' files are read, and where tasks are varied the tasks' too.

    Raises:
        PlanError: The study cannot be run; all problems are named.
    """
    problems: list[str] = []
    tasks = _tasks(study, problems)
    suites = {suite.name: suite for suite, _ in tasks}
    for arm in study.arms:
        problems += timing_problems(arm, _check_card(arm, problems), suites.values())
        problems += budget_problems(arm, study.budget, suites.values())
    if not study.arms:
        problems.append("it names no policy")
    problems += crossed_problems(study)
    varied, omitted = vary(study, tasks, problems)
    for suite in suites.values():
        _check_episodes(study, suite, problems)
    if study.statistics.stop == "decided" and len(study.arms) < 2:
        problems.append('statistics.stop = "decided" compares arms, and it has one')
    if problems:
        raise PlanError(study, list(dict.fromkeys(problems)))
    items = _items(study, varied)
    return Plan(study, tuple(items if study.statistics.stop == "never" else _in_rounds(items)), omitted)


def _tasks(study: Study, problems: list[str]) -> list[tuple[Suite, str]]:
    """The study's tasks as (suite, stem), each once, in the order of the study and of its suites."""
    found: dict[tuple[str, str], Suite] = {}
    if not study.suites and not study.tasks:
        problems.append("it names no suite and no task")
    for name in study.suites:
        with noting(problems):
            suite = catalog.suite(name)
            found |= {(name, stem): suite for stem in suite.stems()}
    for task_id in study.tasks:
        with noting(problems):
            name, _, stem = task_id.partition("/")
            suite = catalog.suite(name)
            if stem not in suite.stems():
                raise UnknownNameError("task", task_id, [f"{name}/{known}" for known in suite.stems()])
            found[name, stem] = suite
    kept = [(suite, stem) for (_, stem), suite in found.items() if _on_axis(study, suite, stem)]
    if found and not kept:
        problems.append(f"none of its {len(found)} tasks tests {' or '.join(study.task_axis)} generalisation")
    return kept


def _on_axis(study: Study, suite: Suite, stem: str) -> bool:
    return not study.task_axis or suite.axes()[stem] in study.task_axis


def _check_card(arm: Arm, problems: list[str]) -> Card | None:
    """The card of an arm's policy; None if it cannot be read."""
    with noting(problems):
        card = read_card(arm.policy)
        if arm.precision not in card.precisions:
            problems.append(
                f"policy {card.name!r} runs at {', '.join(card.precisions)}, not at {arm.precision!r}"
            )
        if (arm.chunk_executed or 1) > card.chunk_predicted:
            problems.append(
                f"policy {card.name!r} predicts {card.chunk_predicted} action(s) at a time, "
                f"so {arm.chunk_executed} cannot be executed"
            )
        return card
    return None


def _check_episodes(study: Study, suite: Suite, problems: list[str]) -> None:
    """Stored initial states are as many as they are; seeds never run out."""
    if suite.init_states is not None and study.namespace != "eval":
        problems.append(
            f"suite {suite.name!r} has stored initial states, which belong to evaluations; namespace = "
            f"{study.namespace!r} needs a suite that draws its scenes from seeds"
        )
    last = study.first_episode + (study.episodes or suite.episodes) - 1
    if suite.init_states is not None and last >= suite.episodes and not study.resample:
        problems.append(
            f"suite {suite.name!r} has {suite.episodes} initial states a task, so its last episode is "
            f"{suite.episodes - 1}; episodes {study.first_episode} to {last} were asked for; --resample "
            f"(resample = true in a study) draws those beyond from seeds"
        )


def _items(study: Study, tasks: Varied) -> Iterator[WorkItem]:
    arms = study.arms
    of_suite = {
        suite.name: [arm for arm in arms if study.runs(arm, suite.name)]
        for suite in {suite.name: suite for suite, *_ in tasks}.values()
    }
    files = {arm.latency: getattr(latency_source(arm.latency), "content", "") for arm in arms}
    for suite, stem, variations in tasks:
        own = study.budget or suite.budget
        budget = Budget(own.steps, own.time_s)
        count = study.episodes or suite.episodes
        for variation in variations:
            for index in range(study.first_episode, study.first_episode + count):
                episode = _episode(suite, stem, variation, index)
                for arm in of_suite[suite.name]:
                    timing = _timing(study, arm, suite, files[arm.latency])
                    yield WorkItem(arm, episode, budget, _key(arm, episode, budget, suite, timing))


def _in_rounds(items: Iterable[WorkItem]) -> list[WorkItem]:
    """The items of every suite in rounds, so that all tasks have had equally many episodes when it stops."""
    items = list(items)
    suites = list(dict.fromkeys(_suite_of(item) for item in items))

    def place(item: WorkItem) -> tuple[int, int]:
        episode = item.episode
        index = episode.seed if episode.init_state is None else episode.init_state
        return suites.index(_suite_of(item)), index or 0

    return sorted(items, key=place)


def _suite_of(item: WorkItem) -> str:
    return item.episode.task_id.partition("/")[0]


def _episode(suite: Suite, stem: str, variation: str, index: int) -> Episode:
    """A stored initial state; where there is none of that index, the seed of that number."""
    task_id = f"{suite.name}/{stem}"
    if suite.init_states is not None and index < suite.episodes:
        return Episode(task_id, variation, init_state=index)
    return Episode(task_id, variation, seed=index)


def _timing(study: Study, arm: Arm, suite: Suite, latency_content: str) -> list[str]:
    """What decides the timing of an item, or its seeds, and is in the name of neither arm nor episode."""
    stale = [] if arm.pacing == "blocking" else [f"stale:{suite.stale}"]
    phase = [] if study.phase == "none" else [f"phase:{study.phase}"]
    seeds = [] if study.namespace == "eval" else [f"namespace:{study.namespace}"]
    return stale + phase + seeds + ([f"latency:{latency_content}"] if latency_content else [])


def _key(arm: Arm, episode: Episode, budget: Budget, suite: Suite, timing: list[str]) -> str:
    lengths = [suite.substep_s, suite.tick_s, suite.policy_period_s, suite.settle_steps]
    content = [arm.key, episode.key, budget.steps, budget.time_s, *lengths, *timing]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
