"""Overhead: what of a run's time is neither simulation, nor rendering, nor the policy.

A plan is run by the real runner into a folder that is thrown away; what it simulates with and who acts are
watched from outside.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vla_bench.policy.base import Policy, PolicySpec
from vla_bench.run.executors import Means
from vla_bench.run.executors.serial import Serial
from vla_bench.run.executors.units import Unit
from vla_bench.run.plan import Plan, WorkItem
from vla_bench.run.provenance import header_of
from vla_bench.run.records import Record, RecordWriter
from vla_bench.run.runner import run_plan
from vla_bench.run.session import begin_session
from vla_bench.run.stage import Job, Policies, Scene, Stage
from vla_bench.run.throughput.free import Free
from vla_bench.seeding import Namespace
from vla_bench.types import Episode, Observation, Simulation, Task

SIMULATION, RENDERING, POLICY = "simulation", "rendering", "policy"


@dataclass(frozen=True, slots=True)
class Overhead:
    """Where the time of a run went.

    Attributes:
        episodes: That were played.
        errors: Of them, those that ended in an error; their times say nothing.
        wall_s: From the first episode's beginning to the last record on the disk.
        spent_s: What of it was `simulation` (scenes are built, reset, stepped, judged), `rendering`
            (observations with pictures) and `policy`.
        disk_s: What of the rest it took to have records on the disk.
        start_s: What comes before the first episode: the machine is described, conventions are compared.
    """

    episodes: int
    errors: int
    wall_s: float
    spent_s: dict[str, float]
    disk_s: float
    start_s: float

    @property
    def share(self) -> float:
        """Share of the time of episodes that is nothing of these."""
        return 1 - sum(self.spent_s.values()) / self.wall_s

    @property
    def other_ms(self) -> float:
        """The same, in milliseconds an episode."""
        return 1e3 * self.share * self.wall_s / self.episodes

    @property
    def disk_ms(self) -> float:
        """Milliseconds of these that an episode's record needs to be on the disk."""
        return 1e3 * self.disk_s / self.episodes


def measure_overhead(plan: Plan, shown: PolicySpec | None = None) -> Overhead:
    """Run a plan with one worker, and watch it.

    Args:
        plan: What is run.
        shown: Where given, a policy that costs nothing acts instead of the plan's, and is shown this.

    Raises:
        VlaBenchError: The plan cannot be run.
    """
    executor = _Watched(shown)
    errors = 0

    def count(record: Record) -> None:
        nonlocal errors
        errors += record.status == "error"

    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="vla-bench-") as folder:
        header = header_of(plan, begin_session(plan, ["bench", "throughput"]))
        episodes = run_plan(plan, Path(folder), header, count, executor)
    wall_s = executor.ended - executor.began
    return Overhead(
        episodes, errors, wall_s, dict(executor.watch.spent_s), executor.disk_s, executor.began - began
    )


@dataclass
class _Watch:
    """Adds up what calls take; a call within another one counts as the outer one."""

    spent_s: dict[str, float] = field(default_factory=dict)
    running: bool = False

    def time(self, part: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self.running:
            return call(*args, **kwargs)
        self.running = True
        began = time.perf_counter()
        try:
            return call(*args, **kwargs)
        finally:
            self.spent_s[part] = self.spent_s.get(part, 0.0) + time.perf_counter() - began
            self.running = False


class _WatchedSimulation:
    def __init__(self, simulation: Simulation, watch: _Watch) -> None:
        self._simulation, self._watch = simulation, watch
        self.task, self.action_size = simulation.task, simulation.action_size  # asked for at every tick

    def __getattr__(self, name: str) -> Any:
        return getattr(self._simulation, name)

    def reset(self, episode: Episode) -> None:
        self._watch.time(SIMULATION, self._simulation.reset, episode)

    @property
    def succeeded(self) -> bool:
        return self._simulation.succeeded

    def tick(self, command: Any) -> None:
        self._watch.time(SIMULATION, self._simulation.tick, command)

    def observe(self, views: Sequence[Any] = (), *, privileged: bool = False) -> Observation:
        part = RENDERING if views else SIMULATION
        return self._watch.time(part, self._simulation.observe, views, privileged=privileged)


class _WatchedPolicy:
    def __init__(self, policy: Policy, watch: _Watch) -> None:
        self._policy, self._watch = policy, watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)

    def reset(self, instruction: str, seed: int) -> None:
        self._watch.time(POLICY, self._policy.reset, instruction, seed)

    def act(self, observations: Sequence[Observation]) -> Any:
        return self._watch.time(POLICY, self._policy.act, observations)


class _WatchedScene(Scene):
    """Attributes: `now`, the simulation that was asked for last."""

    def __init__(self, watch: _Watch, namespace: Namespace) -> None:
        super().__init__(namespace)
        self._watch = watch
        self.now: Any = None

    def of(self, task: Task) -> Any:
        self.now = _WatchedSimulation(self._watch.time(SIMULATION, super().of, task), self._watch)
        return self.now


class _WatchedPolicies(Policies):
    """The policies of a run, or one that costs nothing in their place."""

    def __init__(
        self, policies: Policies, scene: _WatchedScene, shown: PolicySpec | None, watch: _Watch
    ) -> None:
        self._policies, self._scene, self._shown, self._watch = policies, scene, shown, watch
        self._hosts = {}  # all are here

    def get(self, name: str, precision: str) -> Any:
        return _WatchedPolicy(self._one(name, precision), self._watch)

    def _one(self, name: str, precision: str) -> Policy:
        if self._shown is None:
            return self._policies.get(name, precision)
        return Free(self._shown, self._scene.now)


class _WatchedWriter(RecordWriter):
    """Attributes: `spent_s`, what writing took."""

    spent_s = 0.0

    def append(self, record: Record) -> None:
        began = time.perf_counter()
        super().append(record)
        self.spent_s += time.perf_counter() - began


class _Watched(Serial):
    """One worker, whose simulations, policies and records are watched."""

    def __init__(self, shown: PolicySpec | None) -> None:
        super().__init__(Means())
        self.hosting = False
        self.watch = _Watch()
        self.began = self.ended = 0.0
        self._shown = shown

    def run(
        self, job: Job, units: Sequence[Unit], policies: Policies, needed: Callable[[WorkItem], bool]
    ) -> Generator[Record]:
        self.began = time.perf_counter()
        yield from super().run(job, units, policies, needed)
        self.ended = time.perf_counter()

    def writer(self, job: Job) -> RecordWriter:
        self._writer = _WatchedWriter(job.folder)
        return self._writer

    @property
    def disk_s(self) -> float:
        return self._writer.spent_s

    def stage(self, job: Job, policies: Policies) -> Stage:
        scene = _WatchedScene(self.watch, job.study.namespace)
        return Stage(job, _WatchedPolicies(policies, scene, self._shown, self.watch), scene=scene)
