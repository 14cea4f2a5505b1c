"""Plays work items: the simulation of the current task, and the policies that act in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_bench.errors import MissingCapabilityError
from vla_bench.policy.base import Policy
from vla_bench.policy.cards import load_policy, reach_elsewhere, read_card
from vla_bench.run.latency import LatencySource, phase_ticks
from vla_bench.run.latency.measuring import known_source
from vla_bench.run.outcomes import not_played
from vla_bench.run.plan import WorkItem
from vla_bench.run.provenance import now
from vla_bench.run.records import Record
from vla_bench.run.rollout import Rollout
from vla_bench.run.study import Study
from vla_bench.run.watching import play_watched
from vla_bench.run.within import within
from vla_bench.seeding import Namespace
from vla_bench.types import Arm, Budget, Simulation, Task

if TYPE_CHECKING:
    from vla_bench.policy.remote.hosted import Host

Pair = tuple[str, str]  # a policy and a precision


@dataclass(frozen=True, slots=True)
class Job:
    """What everybody who plays items of a run must know; a plain value that travels to other processes.

    Attributes:
        study: What is run.
        folder: Where records, videos and measured latencies are.
        fingerprint: Of the machine that began this session of the run.
        lacking: Policies that cannot be run here, and why: their episodes are errors.
        filmed: Keys of the items that are filmed.
        hosts: Policies that have a process of their own, once for each GPU.
        recorded: Keys of the items that are recorded step by step.
    """

    study: Study
    folder: Path
    fingerprint: str | None = None
    lacking: Mapping[Pair, MissingCapabilityError] = field(default_factory=dict)
    filmed: frozenset[str] = frozenset()
    hosts: tuple[Mapping[Pair, Host], ...] = ()
    recorded: frozenset[str] = frozenset()


class Policies:
    """The policies of a run at their precisions, loaded when they are first asked for, and kept.

    Until it is closed, the process reaches the hosted ones where they are, also where others wrap them.

    Args:
        hosts: Those that have a process of their own, where they are reached.
        load_s: How long one may take to be loaded; workers, which are watched, need no limit.
    """

    def __init__(self, hosts: Mapping[Pair, Host] | None = None, load_s: float | None = None) -> None:
        self._loaded: dict[Pair, Policy] = {}
        self._load_s = load_s
        self._hosts = hosts or {}
        if hosts:
            from vla_bench.policy.remote.hosted import use_hosts

            use_hosts(hosts)

    def close(self) -> None:
        """Forget where the hosted ones are."""
        reach_elsewhere({})

    def is_elsewhere(self, name: str, precision: str) -> bool:
        """Whether a policy, or the one that it wraps, has a process of its own, and is looked after there."""
        from vla_bench.policy.remote.hosted import hosted_pair

        return bool(self._hosts) and hosted_pair(name, precision) in self._hosts

    def get(self, name: str, precision: str) -> Policy:
        """A policy at a precision.

        Raises:
            MissingCapabilityError: This machine cannot run it, or it is not loaded in time.
            VlaBenchError: It cannot be loaded.
        """
        if (name, precision) not in self._loaded:
            with self._in_time(name, precision):
                self._loaded[name, precision] = load_policy(name, precision)
        return self._loaded[name, precision]

    def _in_time(self, name: str, precision: str) -> AbstractContextManager[None]:
        if self._load_s is None:
            return nullcontext()
        return within(self._load_s, too_slow([(name, precision)], self._load_s))


def too_slow(pairs: Iterable[Pair], load_s: float) -> str:
    """What is said where loading takes too long."""
    names = ", ".join(f"{policy} at {precision}" for policy, precision in pairs)
    return f"{names} did not load within {load_s:g} s; --load-patience gives more time"


class Scene:
    """The simulation of the task that was asked for last.

    Args:
        namespace: Whose seeds its episodes have.
    """

    def __init__(self, namespace: Namespace = "eval") -> None:
        self._namespace: Namespace = namespace
        self._simulation: Simulation | None = None

    def of(self, task: Task) -> Simulation:
        """The simulation of a task; that of another task is closed."""
        if self._simulation is None or self._simulation.task != task:
            from vla_bench.axes.simulation import open_simulation

            self.close()
            self._simulation = open_simulation(task, namespace=self._namespace)
        return self._simulation

    def close(self) -> None:
        """Release the simulation."""
        if self._simulation is not None:
            self._simulation.close()
            self._simulation = None


class Stage:
    """Where one worker plays the items of a run.

    Args:
        job: What is played.
        policies: Who acts.
        worker: Who plays, for the records.
        scene: What opens the simulations.

    Attributes:
        exhausted: Whether this process had too little memory for an item: another one may do better.
    """

    def __init__(self, job: Job, policies: Policies, worker: str = "0", scene: Scene | None = None) -> None:
        self._job, self._policies, self._worker = job, policies, worker
        self._scene = scene or Scene(job.study.namespace)
        # read once: a short episode takes less than reading its task and its card anew
        self._tasks: dict[tuple[str, Budget], Task] = {}
        self._chunks: dict[Arm, int] = {}
        self._sources: dict[Arm, LatencySource] = {}
        self._count = 0
        self.exhausted = False
        self._playing: tuple[int, Rollout | None] | None = None  # how many items before, and the rollout
        self._elsewhere = self._reaching = False  # the item's policy is, and is being reached

    def progress(self) -> tuple[int, int, int] | None:
        """Something that changes while an item is played, or None while there is nothing to be done here.

        Any thread may ask. A policy in another process has somebody else who looks after it.
        """
        if self._playing is None:
            return None
        count, run = self._playing
        if self._elsewhere and (self._reaching if run is None else run.thinking):
            return None
        return (count, 0, 0) if run is None else (count, run.ticks, run.steps)

    def play(self, item: WorkItem) -> Record:
        """Play one item.

        A scene that cannot be built, or a policy that cannot run here, is an error of its episodes, not of
        the run.
        """
        started = now()
        self._count, self._elsewhere = self._count + 1, False
        self._playing = (self._count, None)
        try:
            outcome = self._outcome(item)
        except MemoryError as error:
            self.exhausted, outcome = True, not_played(error)
        finally:
            self._playing = None
        return Record.of(
            **outcome, arm=item.arm, episode=item.episode, task=self._task(item),
            study_hash=self._job.study.hash, key=item.key, worker=self._worker, started_at=started,
            fingerprint=self._job.fingerprint,
        )  # fmt: skip

    def close(self) -> None:
        """Release the simulation."""
        self._scene.close()

    def _outcome(self, item: WorkItem) -> dict[str, Any]:
        job = self._job
        if lacking := job.lacking.get((item.arm.policy, item.arm.precision)):
            return not_played(lacking)
        try:
            simulation = self._scene.of(self._task(item))
            policy = self._policy(item.arm)
        except MemoryError:
            raise
        except Exception as error:
            return not_played(error)
        run = Rollout(
            simulation,
            policy,
            chunk_executed=self._executed(item.arm),
            delays=self._source(item.arm).delays(item.episode.key),
        )
        self._playing = (self._count, run)
        if job.study.phase == "drawn":
            run.phase_ticks = phase_ticks(item.episode.key, run.ticks_per_step)
        return play_watched(job, item, run)

    def _task(self, item: WorkItem) -> Task:
        key = (item.episode.task_id, item.budget)
        if key not in self._tasks:
            self._tasks[key] = item.task()
        return self._tasks[key]

    def _executed(self, arm: Arm) -> int:
        if arm not in self._chunks:
            self._chunks[arm] = arm.chunk_executed or read_card(arm.policy).chunk_executed
        return self._chunks[arm]

    def _policy(self, arm: Arm) -> Policy:
        self._elsewhere = self._policies.is_elsewhere(arm.policy, arm.precision)
        self._reaching = True
        try:
            return self._policies.get(arm.policy, arm.precision)
        finally:
            self._reaching = False

    def _source(self, arm: Arm) -> LatencySource:
        if arm not in self._sources:
            self._sources[arm] = known_source(arm, self._job.folder)
        return self._sources[arm]
