"""What a policy is compared with: what was seen in demonstrations, and what was done then."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vla_bench import seeding
from vla_bench.axes.simulation import build_simulation
from vla_bench.errors import ConventionError, MissingDataError
from vla_bench.policy.base import Policy, PolicySpec
from vla_bench.policy.cards import load_policy
from vla_bench.types import Array, CameraView, Episode, Observation, Simulation, Task

# How many times as fast as the demonstrator a good policy may be, or as slow: people and the scripted expert
# differ in pace more than a policy differs from those whom it imitates.
PACE_OF_EXPERT, PACE_OF_DEMONSTRATIONS = 4.0, 1.6
_LOWEST_SEED = 2**16  # LIBERO's scenes ignore the namespace; evaluations count from 0


@dataclass(frozen=True, slots=True)
class Pair:
    """One instant of a demonstration.

    Attributes:
        seen: The history that the policy asks for, newest last.
        done: (A,) command as in `ActionChunk`.
    """

    seen: tuple[Observation, ...]
    done: Array


@dataclass(frozen=True, slots=True)
class Evidence:
    """Demonstrations of one task.

    Attributes:
        source: Who acted, in words.
        episodes: Pairs of each episode; pairs of one episode are much alike, so episodes are what is counted.
        pace: Factor by which a good policy may be faster or slower.
    """

    source: str
    episodes: tuple[tuple[Pair, ...], ...]
    pace: float

    @property
    def pairs(self) -> list[Pair]:
        """All pairs, episode by episode."""
        return [pair for episode in self.episodes for pair in episode]

    @property
    def groups(self) -> np.ndarray:
        """(N,) index of the episode of each pair."""
        return np.repeat(np.arange(len(self.episodes)), [len(episode) for episode in self.episodes])

    @property
    def done(self) -> Array:
        """(N, A) what was done."""
        return np.stack([pair.done for pair in self.pairs])


def select_episode(task: Task, index: int) -> Episode:
    """Episode `index` for choosing conventions: none of an evaluation, none that was trained on."""
    drawn = seeding.generator("select", task.id, index).integers(_LOWEST_SEED, 2**32)
    return Episode(task.id, seed=int(drawn))


def from_expert(task: Task, spec: PolicySpec, episodes: int, pairs: int, *, first: int = 0) -> Evidence:
    """Let the scripted expert act, and look at some instants of its successful episodes.

    Every episode runs twice: to learn how long it is, and to look.

    Args:
        task: What is done.
        spec: Says at what the policy looks.
        episodes: How many are wanted.
        pairs: Instants of each.
        first: Index of the first episode that is tried.

    Raises:
        MissingDataError: It solves less than half of the episodes that are tried.
    """
    expert, kept = load_policy("expert"), []
    with closing(build_simulation(task, namespace="select")) as simulation:
        for index in range(first, first + 2 * episodes):
            episode = select_episode(task, index)
            commands = _act_out(simulation, expert, episode)
            if simulation.succeeded:
                chosen = _instants(len(commands), pairs)
                kept.append(_look(simulation, commands, episode, spec, chosen))
            if len(kept) == episodes:
                return Evidence(f"the scripted expert in {task.id}", tuple(kept), PACE_OF_EXPERT)
    raise MissingDataError(
        f"the scripted expert solves {len(kept)} of {2 * episodes} episodes of {task.id}, too few to "
        "compare with; give demonstrations with --demos"
    )


def from_demonstrations(
    path: Path, task: Task, spec: PolicySpec, episodes: int, pairs: int, *, name: str = "mine"
) -> Evidence:
    """Take instants of recorded demonstrations of a task; `name` is the policy's, for errors.

    Raises:
        ConventionError: They do not hold what the policy asks for.
        MissingDataError: There are none, or fewer than `episodes` of this task.
    """
    from vla_bench.learn.demonstrations import check_fit, open_demonstrations

    data = open_demonstrations(path)
    check_fit(data, spec, name)
    mine = [found for found in data if found.task_id.rpartition("/")[2] == task.stem]
    if len(mine) < episodes:
        known = sorted({found.task_id or "an unnamed task" for found in data})
        raise MissingDataError(
            f"{path} holds {len(mine)} episodes of {task.id}, {episodes} are wanted; its tasks: "
            f"{', '.join(known[:8])}"
        )
    kept = []
    for demonstration in mine[:episodes]:
        chosen = _instants(len(demonstration.actions), pairs)
        stride = _stride(spec, 1.0 / data.conventions.fps, str(path))
        wanted = {step for instant in chosen for step in _history(instant, spec, stride)}
        looked = enumerate(demonstration.observations(spec.cameras))
        seen = {step: observation for step, observation in looked if step in wanted}
        kept.append(_paired(seen, demonstration.actions, spec, stride, chosen))
    return Evidence(f"{len(kept)} demonstrations of {path}", tuple(kept), PACE_OF_DEMONSTRATIONS)


def play(simulation: Simulation, episode: Episode) -> Iterator[None]:
    """Begin an episode as the task's protocol says, with settling; then yield as long as it may last."""
    simulation.reset(episode)
    task = simulation.task
    for _ in range(task.settle_steps):
        step(simulation, np.array(task.settle_action))
    limits = [] if task.budget.steps is None else [task.budget.steps]
    if task.budget.time_s is not None:
        limits.append(int(task.budget.time_s / task.policy_period_s + 1e-9))
    for _ in range(min(limits)):
        if simulation.succeeded:
            return
        yield


def step(simulation: Simulation, command: Array) -> None:
    """Execute a command for a policy period, or until the goal holds."""
    for tick in range(simulation.task.ticks_per_step):
        simulation.tick(command if tick == 0 else None)
        if simulation.succeeded:
            return


def _act_out(simulation: Simulation, expert: Policy, episode: Episode) -> list[Array]:
    """The commands of the expert's episode."""
    expert.reset("", 0)
    commands = []
    for _ in play(simulation, episode):
        commands.append(expert.act([simulation.observe(privileged=True)]).actions[0])
        step(simulation, commands[-1])
    return commands


def _look(
    simulation: Simulation,
    commands: Sequence[Array],
    episode: Episode,
    spec: PolicySpec,
    chosen: Sequence[int],
) -> tuple[Pair, ...]:
    """Repeat an episode, and look where a policy has to."""
    task = simulation.task
    stride = _stride(spec, task.policy_period_s, task.id)
    wanted = {past for instant in chosen for past in _history(instant, spec, stride)}
    views = [CameraView(name, *spec.image_px) for name in spec.cameras]
    seen: dict[int, Observation] = {}
    for index, _ in enumerate(play(simulation, episode)):
        if index in wanted:
            seen[index] = simulation.observe(views)
        step(simulation, commands[index])
    return _paired(seen, np.stack(commands), spec, stride, chosen)


def _paired(
    seen: dict[int, Observation], commands: Array, spec: PolicySpec, stride: int, chosen: Sequence[int]
) -> tuple[Pair, ...]:
    return tuple(
        Pair(tuple(seen[past] for past in _history(instant, spec, stride)), commands[instant])
        for instant in chosen
    )


def _instants(length: int, pairs: int) -> list[int]:
    """At most `pairs` steps, evenly over an episode."""
    return sorted({int(step) for step in np.linspace(0, length - 1, pairs).round()})


def _history(instant: int, spec: PolicySpec, stride: int) -> list[int]:
    """Steps that are seen at an instant; the first one stands in for those before the start."""
    return [max(0, instant - age * stride) for age in reversed(range(spec.history))]


def _stride(spec: PolicySpec, period_s: float, where: str) -> int:
    if spec.history == 1:
        return 1
    steps = spec.history_stride_s / period_s
    if steps < 1 - 1e-9 or abs(steps - round(steps)) > 1e-9:
        raise ConventionError(
            f"the policy wants observations every {spec.history_stride_s} s, which is no multiple of "
            f"{period_s} s, the period of {where}"
        )
    return round(steps)
