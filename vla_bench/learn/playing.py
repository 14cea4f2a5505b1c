"""One demonstration: the scripted expert plays an episode, and if it succeeds it waits for the data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vla_bench import seeding
from vla_bench.axes.simulation import VariedSimulation, build_simulation
from vla_bench.errors import VlaBenchError
from vla_bench.learn import intake
from vla_bench.learn.disturbance import UNDISTURBED, Disturbance, Disturbances, Noise, astray_actions
from vla_bench.lerobot.draft import Draft
from vla_bench.lerobot.layout import Layout
from vla_bench.lerobot.spool import About
from vla_bench.lerobot.state import robot_state
from vla_bench.lerobot.writer import KEPT
from vla_bench.policy.cards import read_card
from vla_bench.policy.scripted.expert import Expert
from vla_bench.types import Array, CameraView, Episode, Observation, Simulation, Task

# LIBERO's scenes come from numpy's old stream whatever the namespace: its demonstrations keep away from the
# small seeds that evaluations count through.
LOWEST_SEED = 2**16


@dataclass(frozen=True, slots=True)
class Setup:
    """What all episodes of a recording have in common.

    Attributes:
        folder: Of the data set.
        layout: What its episodes have.
        disturbances: What may happen in them.
    """

    folder: Path
    layout: Layout
    disturbances: Disturbances = UNDISTURBED


class Simulations:
    """Simulations of tasks, one after the other: that of the last task is kept. Close it at the end.

    Args:
        namespace: Of their seeds.
    """

    def __init__(self, namespace: seeding.Namespace = "demo") -> None:
        self._namespace: seeding.Namespace = namespace
        self._last: VariedSimulation | None = None

    @property
    def current(self) -> VariedSimulation:
        """The last one that was asked for."""
        assert self._last is not None
        return self._last

    def of(self, task: Task) -> VariedSimulation:
        """The simulation of a task."""
        if self._last is None or self._last.task != task:
            self.close()
            self._last = build_simulation(task, namespace=self._namespace)
        return self._last

    def close(self) -> None:
        """Release memory and graphics."""
        if self._last is not None:
            self._last.close()
            self._last = None


class Player:
    """Plays one episode after the other; see `side_by_side.Maker`.

    Args:
        setup: What all of them have in common.
        namespace: Of their seeds.
    """

    def __init__(self, setup: Setup, namespace: seeding.Namespace = "demo") -> None:
        self._setup = setup
        self._expert = Expert(read_card("expert"), "fp32")
        self._simulations = Simulations(namespace)

    def make(self, item: tuple[Task, Episode]) -> str:
        """Play an episode and return `kept`, `failed: …` or `error: …`; what is kept waits in the spool."""
        task, episode = item
        if intake.waiting(self._setup.folder, episode.key).is_dir():  # by a recording that was killed
            return KEPT
        try:
            return self._record(self._simulations.of(task), episode)
        except VlaBenchError as error:
            return f"error: {error}"

    def close(self) -> None:
        """Release memory and graphics."""
        self._simulations.close()

    def _record(self, simulation: Simulation, episode: Episode) -> str:
        task, disturbance = simulation.task, self._setup.disturbances.draw(simulation.task, episode)
        simulation.reset(episode)
        instruction = simulation.observe().instruction
        self._expert.reset(instruction, int(seeding.generator("demo", "policy", episode.key).integers(2**63)))
        settle(simulation)
        noise = Noise(disturbance, episode)
        if disturbance.astray:
            self._lead_astray(simulation, episode, disturbance, noise)
            if simulation.succeeded:
                return "failed: the goal held before the expert took over"
        facts = {"seed": float(episode.seed or 0), **disturbance.facts}
        about = About(episode.key, task.suite, task.id, instruction, facts)
        with intake.draft(self._setup.folder, self._setup.layout, about) as draft:
            if not self._play(simulation, noise, draft):
                return f"failed: {task.budget} over"
            draft.keep(episode.key, task.id, instruction)
        return KEPT

    def _lead_astray(
        self, simulation: Simulation, episode: Episode, disturbance: Disturbance, noise: Noise
    ) -> None:
        """Let the expert begin, then random actions go on; it watches these, for it knows where it began."""
        for _ in range(disturbance.astray_after):
            if execute(simulation, noise.add(self._answer(simulation.observe(privileged=True)))):
                break
        for action in astray_actions(disturbance, simulation.task, episode):
            self._answer(simulation.observe(privileged=True))
            execute(simulation, action, until_success=False)

    def _play(self, simulation: Simulation, noise: Noise, draft: Draft) -> bool:
        """Let the expert act until the goal holds or the budget is over; returns whether it succeeded."""
        for _ in range(most_steps(simulation.task)):
            _, action = self._stored(simulation, draft)
            if execute(simulation, noise.add(action)):
                return True
        return False

    def _stored(self, simulation: Simulation, draft: Draft) -> tuple[Observation, Array]:
        """Store what is seen and what the expert would do; returns both."""
        views = [CameraView(name, *size) for name, size in self._setup.layout.cameras.items()]
        seen = simulation.observe(views, privileged=True)
        action = self._answer(seen)
        draft.add(seen.images, robot_state(seen), action)
        return seen, action

    def _answer(self, seen: Observation) -> Array:
        # rounded before it is executed, so that what is stored is what was done
        return self._expert.act([seen]).actions[0].astype(np.float32).astype(np.float64)


def demo_episode(task: Task, index: int) -> Episode:
    """Episode `index` of a task's demonstrations."""
    return Episode(task.id, seed=int(seeding.generator("demo", task.id, index).integers(LOWEST_SEED, 2**32)))


def settle(simulation: Simulation) -> None:
    """Let the scene come to rest, as before every episode."""
    task = simulation.task
    for _ in range(task.settle_steps):
        execute(simulation, np.array(task.settle_action), until_success=False)


def execute(simulation: Simulation, action: Array, *, until_success: bool = True) -> bool:
    """Execute an action for a policy period, or only until the goal holds; returns whether it does."""
    for tick in range(simulation.task.ticks_per_step):
        simulation.tick(action if tick == 0 else None)
        if until_success and simulation.succeeded:
            return True
    return simulation.succeeded


def most_steps(task: Task) -> int:
    """Policy steps that fit into the task's budget."""
    budget, limits = task.budget, []
    if budget.steps is not None:
        limits.append(budget.steps)
    if budget.time_s is not None:
        limits.append(int(budget.time_s / task.policy_period_s + 1e-9))
    return min(limits)
