"""One episode: a policy acts in a simulation until success, the end of its budget, or an error.

It knows nothing of records, videos or tables. How simulated time relates to thinking is the pacing's
business; a pacing is a function of a `Rollout`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from vla_bench.errors import ConventionError
from vla_bench.policy.base import Policy
from vla_bench.run.latency import Delays, no_delay
from vla_bench.run.outcomes import as_error, measures, not_played
from vla_bench.run.pacing import PACINGS, parse_pacing, whole_ns
from vla_bench.types import ActionChunk, Array, CameraView, Episode, Observation, Simulation

PHASES = ("preprocess", "inference", "postprocess")
SPANS = ("delay", "observed", "observation_age", "staleness")
COLUMNS = tuple(f"{name}_ms" for name in (*PHASES, *SPANS))


class PolicyFailure(Exception):  # noqa: N818  (the policy's fault, not an error)
    """What the policy did wrong; the episode is a failure with this cause."""

    def __init__(self, cause: str, detail: str) -> None:
        self.cause = cause
        super().__init__(detail)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a policy said: (T, A) `actions` as it gave them, and the milliseconds of each phase."""

    actions: Array
    phases_ms: Mapping[str, float]


@dataclass
class Rollout:
    """The state of an episode that is running.

    Attributes:
        simulation, policy: Who takes part.
        chunk_executed: How many actions of a chunk are executed before the next inference.
        on_start: Called when the policy's clock begins; `on_step` after every policy period, for example to
            record a frame.
        command: What the robot was last told; `commands` counts how often it was told something.
        delays: What each inference takes on the virtual clock.
        phase_ticks: How long the world runs before the policy's clock begins.
        steps, ticks: Accepted actions and simulation ticks so far.
        thinking: Whether the policy is being asked.
        succeeded: Whether the goal held after some tick.
        ended_by: The limit of the budget that ended the episode.
        frozen_ns: How long the world stood still and waited for the policy.
        grip_path: Where the fingers were, once a policy period.
        inferences: Columns of the record, one entry an inference.
    """

    simulation: Simulation
    policy: Policy
    chunk_executed: int = 1
    on_start: Callable[[], None] = lambda: None
    on_step: Callable[[], None] = lambda: None
    command: Array | None = None
    commands: int = 0
    delays: Delays = no_delay
    phase_ticks: int = 0
    steps: int = 0
    ticks: int = 0
    thinking: bool = False
    succeeded: bool = False
    ended_by: Literal["steps", "time"] | None = None
    frozen_ns: int = 0
    grip_path: list[Array] = field(default_factory=list)
    inferences: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in COLUMNS})
    _observed: dict[int, Observation] = field(default_factory=dict)  # by the ticks before it
    _calls: int = 0

    @property
    def ended(self) -> bool:
        """Whether nothing more is to be done."""
        return self.succeeded or self.ended_by is not None

    @property
    def now_ns(self) -> int:
        """Time on the policy's clock."""
        return self.ticks * self.simulation.task.tick_ns

    @property
    def ticks_per_step(self) -> int:
        """Ticks in a policy period."""
        return self.simulation.task.ticks_per_step

    def start(self) -> None:
        """Let the scene settle as the task's protocol says; not counted, and success does not count yet."""
        task = self.simulation.task
        command = np.array(task.settle_action)
        for _ in range(task.settle_steps):
            for tick in range(task.ticks_per_step):
                self.simulation.tick(command if tick == 0 else None)
        for _ in range(self.phase_ticks):
            self.simulation.tick(None)

    def infer(self) -> Array:
        """Observe, ask the policy, and return the (T, A) actions, while the world stands still.

        Raises:
            PolicyFailure: An action is not a finite number.
            ConventionError: The chunk has another shape than the simulation's actions.
        """
        answer, delay_ns = self.ask()
        self.frozen_ns += delay_ns
        self.take(answer, observed_ns=self.now_ns, delay_ns=delay_ns)
        return answer.actions

    def ask(self, act: Callable[[Sequence[Observation]], ActionChunk] | None = None) -> tuple[Answer, int]:
        """Observe and ask the policy; return what it says and how long that takes on the virtual clock (ns).

        Args:
            act: Asked instead of the policy's own.

        Raises:
            ConventionError: The chunk has another shape than the simulation's actions.
        """
        observations = self._history()
        began = time.perf_counter_ns()
        self.thinking = True
        chunk = (act or self.policy.act)(observations)
        self.thinking = False
        spent_ns = time.perf_counter_ns() - began
        actions = np.asarray(chunk.actions, dtype=np.float64)
        check_chunk(self.simulation, self.policy, actions)
        delay_ns = whole_ns(self.delays(self._calls, spent_ns), f"the delay of inference {self._calls}")
        self._calls += 1
        return Answer(actions, chunk.timings_ms or {"inference": spent_ns / 1e6}), delay_ns

    def take(
        self, answer: Answer, *, observed_ns: int, delay_ns: int, age_ns: int = 0, stale_ns: int = 0
    ) -> None:
        """Accept what the policy said, when it is there.

        Args:
            answer: What it said.
            observed_ns: When its observation was made, on the policy's clock.
            delay_ns: What it took.
            age_ns: Age of its observation when its first action is applied.
            stale_ns: How long until then nothing fresh was there.

        Raises:
            PolicyFailure: An action is not a finite number.
        """
        for phase in PHASES:
            self.inferences[f"{phase}_ms"].append(float(answer.phases_ms.get(phase, 0.0)))
        for name, span_ns in zip(SPANS, (delay_ns, observed_ns, age_ns, stale_ns), strict=True):
            self.inferences[f"{name}_ms"].append(span_ns / 1e6)
        finite = np.isfinite(answer.actions)
        if not finite.all():
            raise PolicyFailure("policy_nan", f"action {answer.actions[~finite.all(axis=1)][0]}")

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
        self._end_period()

    def tick_in_time(self, command: Array | None) -> None:
        """Advance the simulation by one tick, and see to what happens once a policy period."""
        self.tick(command)
        if self.ticks % self.ticks_per_step == 0 or self.ended:
            self._end_period()
            if self.policy.spec.history > 1 and not self.ended:
                self._see()

    def _end_period(self) -> None:
        self.grip_path.append(self.simulation.observe().proprio["robot0_eef_pos"])
        self.on_step()

    def tick(self, command: Array | None) -> None:
        """Advance the simulation by one tick and test success and the time budget."""
        self.simulation.tick(command)
        if command is not None:
            self.command, self.commands = command, self.commands + 1
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
            self._see()

    @property
    def simulated_s(self) -> float:
        """Physics time since the start, settling not counted."""
        return self.ticks * self.simulation.task.tick_s

    @property
    def task_s(self) -> float:
        """Time that the task took: the simulated, and that in which the world waited."""
        return self.simulated_s + self.frozen_ns / 1e9

    def _history(self) -> list[Observation]:
        """The observations that the spec asks for: now, and of each instant before the newest not later.

        Those were made at the ends of policy periods; the first stands in for those before the start.
        """
        spec = self.policy.spec
        stride = self._stride() * self.ticks_per_step if spec.history > 1 else 1
        self._see()
        made = [tick for tick in self._observed if tick % self.ticks_per_step == 0]
        wanted = [
            max((tick for tick in made if tick <= self.ticks - age * stride), default=0)
            for age in reversed(range(1, spec.history))
        ] + [self.ticks]
        self._observed = {tick: seen for tick, seen in self._observed.items() if tick >= wanted[0]}
        return [self._observed[tick] for tick in wanted]

    def _see(self) -> None:
        """Keep the observation of now."""
        if self.ticks in self._observed:
            return
        spec = self.policy.spec
        views = [CameraView(name, *spec.image_px) for name in spec.cameras]
        self._observed[self.ticks] = self.simulation.observe(views, privileged=spec.privileged)

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

    What the policy did wrong is a failure with a cause, everything else an error with its traceback.

    Raises:
        MemoryError: This process has too little memory; nothing else that goes wrong escapes.
    """
    began = time.perf_counter()
    outcome: dict[str, Any] = {}
    try:
        run.simulation.reset(episode)
    except MemoryError:
        raise
    except Exception as error:  # what the simulation could tell is still that of the episode before
        return not_played(error) | {"wall_s": time.perf_counter() - began}
    try:
        run.policy.reset(run.simulation.observe().instruction, policy_seed)
        run.start()
        run.on_start()
        kind = parse_pacing(pacing)
        PACINGS[kind.mode].play(run, kind)
    except MemoryError:
        raise
    except PolicyFailure as failure:
        outcome = {"status": "failure", "cause": failure.cause}
    except Exception as error:
        outcome = as_error(error)
    else:
        limit = {"steps": "horizon", "time": "time", None: None}[run.ended_by]
        outcome = {"status": "success" if run.succeeded else "failure", "cause": limit}
    return outcome | measures(run) | {"wall_s": time.perf_counter() - began}
