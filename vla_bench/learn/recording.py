"""Records demonstrations: the scripted expert acts, and what it saw and did is kept if it succeeded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vla_bench import catalog, seeding
from vla_bench.axes.simulation import build_simulation
from vla_bench.errors import ConventionError, VlaBenchError
from vla_bench.lerobot.draft import Draft
from vla_bench.lerobot.layout import Layout
from vla_bench.lerobot.state import robot_state
from vla_bench.lerobot.writer import KEPT, Recording
from vla_bench.policy.base import Policy
from vla_bench.policy.cards import load_policy
from vla_bench.types import CameraView, Episode, Simulation, Task

# LIBERO's scenes come from numpy's old stream whatever the namespace: its demonstrations keep away from the
# small seeds that evaluations count through.
_LOWEST_SEED = 2**16


@dataclass(frozen=True, slots=True)
class Attempt:
    """An episode that was to be recorded, and what became of it.

    Attributes:
        episode: Which.
        outcome: `kept`, `failed: …` or `error: …`; an error is tried again by the next recording.
        is_new: Whether it was tried now.
    """

    episode: Episode
    outcome: str
    is_new: bool


def record(
    tasks: Sequence[Task],
    folder: Path,
    *,
    episodes: range,
    encoding: str,
    on_attempt: Callable[[Attempt], None] = lambda attempt: None,
) -> list[Attempt]:
    """Record the episodes of `tasks`, those that the folder has not tried yet; one attempt for each.

    Args:
        tasks: All of one frequency, with the same cameras.
        folder: A new one, or one that this function has recorded into.
        episodes: Indices; each stands for a seed of the `demo` namespace.
        encoding: How pictures are stored, a name in `pictures.ENCODINGS`.
        on_attempt: Called after each.

    Raises:
        ConventionError: The tasks or the folder do not go together.
        DataError: The folder holds something else.
    """
    layout, attempts = layout_of(tasks, encoding), []
    with Recording(folder, layout, made_with(tasks)) as recording:
        for task in tasks:
            for attempt in _record_task(task, recording, episodes):
                attempts.append(attempt)
                on_attempt(attempt)
    return attempts


def demo_episode(task: Task, index: int) -> Episode:
    """Episode `index` of a task's demonstrations."""
    return Episode(task.id, seed=int(seeding.generator("demo", task.id, index).integers(_LOWEST_SEED, 2**32)))


def layout_of(tasks: Sequence[Task], encoding: str) -> Layout:
    """What demonstrations of `tasks` have in common.

    Raises:
        ConventionError: They differ; both sides are named.
    """
    layouts = [
        Layout(
            round(1 / task.policy_period_s, 9),
            dict.fromkeys(task.cameras, (task.observation_height_px, task.observation_width_px)),
            encoding,
        )
        for task in tasks
    ]
    if not layouts:
        raise ConventionError("no task is left to record; name a suite or a task")
    for task, layout in zip(tasks, layouts, strict=True):
        if layout != layouts[0]:
            raise ConventionError(
                f"{tasks[0].suite} is {layouts[0]} and {task.suite} is {layout}: a data set has one "
                "frequency and one set of cameras; record them into different folders"
            )
    return layouts[0]


def made_with(tasks: Sequence[Task]) -> dict[str, str | int]:
    """What decides about physics and pixels of a recording on this machine."""
    from vla_bench.sim import fingerprint

    found: dict[str, str | int] = {"fingerprint": str(fingerprint.take(views=2))}
    if any(catalog.suite(name).needs_libero for name in {task.suite for task in tasks}):
        from vla_bench.sim.assets import libero_status

        # pictures of stand-ins are not LIBERO's: nothing that was trained on them can be scored on it
        found["libero_standins"] = len(libero_status(catalog.libero_root()).standins)
    return found


def _record_task(task: Task, recording: Recording, episodes: range) -> Iterator[Attempt]:
    wanted = [demo_episode(task, index) for index in episodes]
    new = [episode for episode in wanted if episode.key not in recording.tried]
    yield from (Attempt(e, recording.tried[e.key], is_new=False) for e in wanted if e not in new)
    if not new:
        return
    with closing(build_simulation(task, namespace="demo")) as simulation:
        expert = load_policy("expert")
        for episode in new:
            try:
                outcome = _record_episode(simulation, expert, episode, recording)
            except VlaBenchError as error:
                yield Attempt(episode, f"error: {error}", is_new=True)
                continue
            recording.note(episode.key, outcome)
            yield Attempt(episode, outcome, is_new=True)


def _record_episode(simulation: Simulation, expert: Policy, episode: Episode, recording: Recording) -> str:
    simulation.reset(episode)
    instruction = simulation.observe().instruction
    expert.reset(instruction, int(seeding.generator("demo", "policy", episode.key).integers(2**63)))
    with recording.draft() as draft:
        if not _play(simulation, expert, draft):
            return f"failed: {simulation.task.budget} over"
        draft.keep(episode.key, episode.task_id, instruction)
    return KEPT


def _play(simulation: Simulation, expert: Policy, draft: Draft) -> bool:
    """Let the expert act until the goal holds or the budget is over; returns whether it succeeded."""
    task = simulation.task
    views = [CameraView(name, task.observation_height_px, task.observation_width_px) for name in task.cameras]
    for tick in range(task.settle_steps * task.ticks_per_step):
        simulation.tick(np.array(task.settle_action) if tick % task.ticks_per_step == 0 else None)
    for _ in range(_most_steps(task)):
        seen = simulation.observe(views, privileged=True)
        # rounded before it is executed, so that what is stored is what was done
        action = expert.act([seen]).actions[0].astype(np.float32).astype(np.float64)
        draft.add(seen.images, robot_state(seen), action)
        if _step(simulation, action):
            return True
    return False


def _most_steps(task: Task) -> int:
    """Policy steps that fit into the task's budget."""
    budget, limits = task.budget, []
    if budget.steps is not None:
        limits.append(budget.steps)
    if budget.time_s is not None:
        limits.append(int(budget.time_s / task.policy_period_s + 1e-9))
    return min(limits)


def _step(simulation: Simulation, action: np.ndarray) -> bool:
    """Execute an action for a policy period or until the goal holds; returns whether it does."""
    for tick in range(simulation.task.ticks_per_step):
        simulation.tick(action if tick == 0 else None)
        if simulation.succeeded:
            return True
    return False
