"""Records what happens in an episode, step by step, while it runs: numbers and the pictures of its cameras.

The simulation is asked in the thread that runs it; encoding and writing happen in another.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import numpy as np

from vla_bench.errors import VlaBenchError
from vla_bench.lerobot.conventions import DELTA_POSE
from vla_bench.lerobot.draft import Draft
from vla_bench.lerobot.layout import Layout
from vla_bench.lerobot.state import STATE_FIELDS, STATE_NAMES, robot_state
from vla_bench.run.rollout import Rollout
from vla_bench.run.spool import COMMANDED, DONE, OUTCOME, REWARD, SUCCESS, About, begin
from vla_bench.types import Array, CameraView, Observation, Simulation

JOINTS = "robot0_joint_pos"
# Frames that may wait to be encoded: a slow disk slows the episode down rather than filling the memory.
_WAITING = 64


Frame = tuple[Observation, Array, dict[str, float]]


class Recorder:
    """Records an episode into the spool of a run; a context that throws away what has not been kept.

    Row k holds what was observed when period k began, the last command that the robot was given until its
    end, whether it was given within it, and reward (the task's score, 1 once it succeeded) and success then.

    Args:
        folder: Of the run.
        run: The episode; its hooks are set.
        about: What it is.
    """

    def __init__(self, folder: Path, run: Rollout, about: About) -> None:
        task = run.simulation.task
        self._folder, self._run, self._about = folder, run, about
        self._size = (task.observation_height_px, task.observation_width_px)
        self._views = [CameraView(name, *self._size) for name in task.cameras]
        self._seen: Observation | None = None
        self._commands = 0
        self._draft: Draft | None = None
        self._frames: queue.Queue[Frame | None] = queue.Queue(_WAITING)
        self._problem: Exception | None = None
        self._writer = threading.Thread(target=self._write, name="recorder", daemon=True)
        run.on_start, run.on_step = _both(run.on_start, self._begin), _both(run.on_step, self._step)

    def keep(self) -> None:
        """Finish the recording and put it into the spool, if anything happened.

        Raises:
            VlaBenchError: Not all of it could be written.
        """
        self._finish()
        if self._problem is not None:
            raise VlaBenchError(f"{self._folder}: an episode could not be recorded: {self._problem}")
        if self._draft is not None:
            self._draft.keep(self._about.key, self._about.task_id, self._about.instruction)

    def _begin(self) -> None:
        simulation = self._run.simulation
        self._seen = simulation.observe(self._views)
        self._about = replace(self._about, instruction=self._seen.instruction)
        task = simulation.task
        layout = Layout(
            round(1 / task.policy_period_s, 9), dict.fromkeys(task.cameras, self._size), "film",
            state_names(self._seen), action_names(simulation), task.action_convention, OUTCOME,
        )  # fmt: skip
        self._draft = begin(self._folder, layout, self._about)
        self._writer.start()

    def _step(self) -> None:
        run, seen = self._run, self._seen
        if seen is None or self._problem is not None:
            return
        command = run.command if run.command is not None else np.array(run.simulation.task.settle_action)
        outcome = {
            REWARD: 1.0 if run.succeeded else run.simulation.score,
            DONE: run.ended,
            SUCCESS: run.succeeded,
            COMMANDED: run.commands > self._commands,
        }
        self._frames.put((seen, np.array(command), outcome))
        self._commands = run.commands
        self._seen = None if run.ended else run.simulation.observe(self._views)

    def _write(self) -> None:
        """What the other thread does."""
        while (frame := self._frames.get()) is not None:
            if self._problem is not None or self._draft is None:
                continue  # somebody may be waiting for room
            seen, command, outcome = frame
            try:
                self._draft.add(seen.images, state_of(seen), command, **outcome)
            except Exception as error:
                self._problem = error

    def _finish(self) -> None:
        if self._writer.is_alive():
            self._frames.put(None)
            self._writer.join()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._finish()
        if self._draft is not None:
            self._draft.__exit__(kind, error, trace)


def state_of(seen: Observation) -> Array:
    """(S,) the observed numbers: LIBERO's eight where they say all but the joints, else all there are."""
    if set(seen.proprio) - {JOINTS} == set(STATE_NAMES):
        return robot_state(seen)
    return np.concatenate([np.ravel(seen.proprio[name]) for name in sorted(seen.proprio)])


def state_names(seen: Observation) -> tuple[str, ...]:
    """Names of the numbers of `state_of`."""
    if set(seen.proprio) - {JOINTS} == set(STATE_NAMES):
        return STATE_FIELDS
    sizes = {name: np.size(seen.proprio[name]) for name in sorted(seen.proprio)}
    return tuple(f"{name}_{index}" for name, size in sizes.items() for index in range(size))


def action_names(simulation: Simulation) -> tuple[str, ...]:
    """Names of an action's numbers."""
    if simulation.task.action_convention == "delta_pose" and simulation.action_size == len(DELTA_POSE):
        return tuple(DELTA_POSE)
    return tuple(f"a{index}" for index in range(simulation.action_size))


def _both(first: Callable[[], None], then: Callable[[], None]) -> Callable[[], None]:
    def call() -> None:
        first()
        then()

    return call
