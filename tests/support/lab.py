"""A world in which nothing happens but time, and a policy that signs its actions: for laws of scheduling."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from support.worlds import BRIDGE
from vla_bench import catalog
from vla_bench.policy.base import PolicySpec
from vla_bench.run.rollout import Rollout, play
from vla_bench.types import ActionChunk, Array, Budget, CameraView, Episode, Observation, Task

TICK_S = 0.02
EPISODE = Episode(BRIDGE, seed=0)


def lab_task(ticks_per_step: int = 1, *, stale: str | None = "goal", **limits: Any) -> Task:
    """A task with a period of some ticks of 20 ms, and a budget."""
    return dataclasses.replace(
        catalog.task(BRIDGE), tick_s=TICK_S, policy_period_s=TICK_S * ticks_per_step,
        settle_steps=0, stale=stale, budget=Budget(**limits),
    )  # fmt: skip


class Lab:
    """Keeps the commands that it was given, one entry a tick; the goal holds from tick `succeeds_at` on."""

    action_size = 7
    cameras = ()
    score, stages, drawn = 0.0, (), {}

    def __init__(self, task: Task, succeeds_at: float = np.inf) -> None:
        self.task, self._succeeds_at = task, succeeds_at
        self.commands: list[Array | None] = []

    def reset(self, episode: Episode) -> None:
        self.commands = []

    def tick(self, command: Array | None) -> None:
        self.commands.append(command)

    def observe(self, views: Sequence[CameraView] = (), *, privileged: bool = False) -> Observation:
        where = {"robot0_eef_pos": np.zeros(3)}
        return Observation({}, where, self.task.instruction, len(self.commands) * self.task.tick_ns)

    @property
    def succeeded(self) -> bool:
        return len(self.commands) >= self._succeeds_at

    def close(self) -> None: ...

    def signed(self) -> list[tuple[int, int] | None]:
        """Of each tick: (tick of the observation, index in the chunk) of the action that began, or None."""
        return [None if c is None else (round(c[0]), round(c[1])) for c in self.commands]


class Signed:
    """Its j-th action says (tick of the newest observation, j, …, 1); it may take its time on the wall."""

    def __init__(self, length: int = 1, sleep_s: Callable[[], float] = lambda: 0.0, **spec: Any) -> None:
        self.spec = PolicySpec(chunk_length=length, **spec)
        self.seen: list[list[int]] = []  # ticks of the observations of each call
        self._sleep_s = sleep_s

    def reset(self, instruction: str, seed: int) -> None:
        self.seen = []

    def act(self, observations: Sequence[Observation]) -> ActionChunk:
        self.seen.append([round(seen.time_ns / (TICK_S * 1e9)) for seen in observations])
        if sleep_s := self._sleep_s():
            time.sleep(sleep_s)
        return ActionChunk(
            np.array([[self.seen[-1][-1], j, 0, 0, 0, 0, 1] for j in range(self.spec.chunk_length)])
        )


class Continuing(Signed):
    """Takes what is left of its last chunk, and keeps it."""

    def __init__(self, length: int) -> None:
        super().__init__(length)
        self.given: list[tuple[list[tuple[int, int]], int]] = []

    def act_continuing(self, observations: Sequence[Observation], leftover: Array, delay: int) -> ActionChunk:
        self.given.append(([(round(a[0]), round(a[1])) for a in leftover], delay))
        return self.act(observations)


def delayed(*ticks: float) -> Callable[[int, int], int]:
    """Delays of the first inferences in ticks, the last one for ever; parts of a tick are allowed."""
    return lambda call, spent_ns: round(ticks[min(call, len(ticks) - 1)] * TICK_S * 1e9)


def play_in_lab(
    pacing: str, policy: Signed, task: Task, *, succeeds_at: float = np.inf, **settings: Any
) -> tuple[Lab, Rollout, dict[str, Any]]:
    """Play one episode; an error in it is raised."""
    lab = Lab(task, succeeds_at)
    run = Rollout(lab, policy, **settings)
    outcome = play(run, EPISODE, pacing, 0)
    assert outcome["status"] != "error", outcome["error"].traceback
    return lab, run, outcome
