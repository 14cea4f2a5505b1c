"""DAgger: a policy acts, and in every state that this leads to the scripted expert says what it would do.

A policy that has learned from demonstrations alone meets, when it acts, states that no demonstration holds
(Ross, Gordon and Bagnell 2011). Here a policy and the expert take turns of a second each; whoever acts, what
is stored is what was seen and what the expert would do. The expert remembers what it is about (to approach,
close, carry), so it watches all the time, and it is told when somebody else acted: then it does not count
against its way that nothing got on, and takes for its own what the policy has taken. When the budget is over
it goes on alone from where the policy led, with the same memory, for another budget; what it said is kept
only if it then reaches the goal.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vla_bench import catalog, seeding
from vla_bench.errors import ConventionError, DataError
from vla_bench.learn import held_out, intake
from vla_bench.learn.demonstrations import Demonstrations, check_fit, check_frequency, open_demonstrations
from vla_bench.learn.importing import layout_of
from vla_bench.learn.playing import LOWEST_SEED, Player, Setup, execute, most_steps, settle
from vla_bench.learn.recording import Attempt, fill, made_with
from vla_bench.lerobot.draft import Draft
from vla_bench.lerobot.spool import About
from vla_bench.lerobot.writer import KEPT
from vla_bench.policy.base import Policy, PolicySpec
from vla_bench.policy.cards import load_policy, read_card
from vla_bench.policy.remote.hosted import Host, Pair, use_hosts
from vla_bench.types import Array, Episode, Observation, Simulation, Task

_TURN_S = 1.0


@dataclass(frozen=True, slots=True)
class Round:
    """One round of DAgger.

    Attributes:
        policy, precision: Who acts.
        number: From 1; the seeds of rounds differ.
        expert_rate: Chance that a turn is the expert's (β of Ross et al.).
        hosts: Where policies are reached that have a process of their own.
        weights: Digests of what the policy was loaded from, by file.

    Raises:
        ConventionError: A number is out of range.
    """

    policy: str
    precision: str
    number: int = 1
    expert_rate: float = 0.5
    hosts: Mapping[Pair, Host] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.number < 1 or not 0 <= self.expert_rate <= 1:
            raise ConventionError(
                "a round is counted from 1, and the expert acts at a rate in 0 … 1; got round "
                f"{self.number} and rate {self.expert_rate:g}"
            )

    @property
    def described(self) -> dict[str, object]:
        """What a data set says of it."""
        return {
            "policy": self.policy, "precision": self.precision, "round": self.number,
            "expert_rate": self.expert_rate, "weights": dict(self.weights),
        }  # fmt: skip


def record_round(
    how: Round,
    data: Path,
    folder: Path,
    *,
    tasks: Sequence[Task] = (),
    episodes: range,
    encoding: str,
    workers: int = 1,
    on_attempt: Callable[[Attempt], None] = lambda attempt: None,
) -> list[Attempt]:
    """Record a round, those of its episodes that the folder has not tried yet; one attempt for each.

    Args:
        how: Who acts, and how often.
        data: Demonstrations that the policy was trained on; frequency and sizes of pictures are theirs, the
            cameras are those that the policy needs (all, if it needs none).
        folder: A new one, or one that this function has recorded into.
        tasks: What is played; by default the tasks of `data`.
        episodes: Indices; each stands for a seed of the `dagger` namespace.
        encoding: How pictures are stored, a name in `pictures.ENCODINGS`.
        workers: How many processes play.
        on_attempt: Called after each.

    Raises:
        ConventionError: Policy, data, tasks or folder do not go together.
        MissingDataError, DataError: The data cannot be read, or show what is held out.
        VlaBenchError: A process was killed.
    """
    known = open_demonstrations(data)
    use_hosts(how.hosts)
    spec = load_policy(how.policy, how.precision).spec
    check_fit(known, replace(spec, privileged=False), how.policy)
    chosen = tasks or tasks_of(known)
    held_out.check(data, (task.id for task in chosen))
    check_frequency(known, chosen)
    setup = Setup(folder, layout_of(known, cameras=spec.cameras, encoding=encoding))
    wanted = [(task, round_episode(task, how.number, index)) for task in chosen for index in episodes]
    stamp = made_with(chosen) | {"dagger": how.described}
    return fill(setup, stamp, wanted, partial(Corrector, setup, how), workers, on_attempt)


def tasks_of(data: Demonstrations) -> list[Task]:
    """The tasks that a data set shows.

    Raises:
        DataError: It does not say which.
    """
    names = dict.fromkeys(episode.task_id for episode in data)
    if "" in names:
        raise DataError(data.source, "does not say of which tasks its episodes are; name them with --task")
    return [catalog.task(name) for name in names]


def round_episode(task: Task, number: int, index: int) -> Episode:
    """Episode `index` of a task in a round."""
    draws = seeding.generator("dagger", task.id, number, index)
    return Episode(task.id, seed=int(draws.integers(LOWEST_SEED, 2**32)))


def expert_turns(task: Task, episode: Episode, rate: float) -> NDArray[np.bool_]:
    """(steps,) whether each step of the budget is the expert's: turns of a second, with chance `rate`."""
    steps, length = most_steps(task), max(1, round(_TURN_S / task.policy_period_s))
    draws = seeding.generator("dagger", "turns", episode.key)
    return np.repeat(draws.uniform(size=-(-steps // length)) < rate, length)[:steps]


class Corrector(Player):
    """Plays one episode after the other, the policy corrected by the expert; see `side_by_side.Maker`."""

    def __init__(self, setup: Setup, how: Round) -> None:
        super().__init__(setup, "dagger")
        use_hosts(how.hosts)
        self._how = how
        self._pupil = Pupil(load_policy(how.policy, how.precision), read_card(how.policy).chunk_executed)

    def _record(self, simulation: Simulation, episode: Episode) -> str:
        task, how = simulation.task, self._how
        simulation.reset(episode)
        instruction = simulation.observe().instruction
        for_expert, for_policy = seeding.generator("dagger", "policy", episode.key).integers(2**63, size=2)
        self._expert.reset(instruction, int(for_expert))
        self._pupil.reset(instruction, int(for_policy), task)
        settle(simulation)
        facts = {"seed": float(episode.seed or 0), "round": float(how.number), "expert_rate": how.expert_rate}
        about = About(episode.key, task.suite, task.id, instruction, facts)
        with intake.draft(self._setup.folder, self._setup.layout, about) as draft:
            ours = expert_turns(task, episode, how.expert_rate)
            facts["policy_share"], succeeded = self._correct(simulation, ours, draft)
            if not succeeded:
                return f"failed: {task.budget} over, and over again after the expert took over"
            draft.keep(episode.key, task.id, instruction)
        return KEPT

    def _correct(self, simulation: Simulation, ours: NDArray[np.bool_], draft: Draft) -> tuple[float, bool]:
        """Act in turns, then let the expert go on; returns the policy's share, and whether the goal holds."""
        theirs = 0
        for step in range(2 * len(ours)):
            seen, action = self._stored(simulation, draft)
            self._pupil.see(seen)
            if step < len(ours) and not ours[step]:
                action = self._pupil.act()
                self._expert.excuse()
                theirs += 1
            else:
                self._pupil.interrupt()
            if execute(simulation, action):
                return theirs / (step + 1), True
        return theirs / (2 * len(ours)), False


class Pupil:
    """A policy that acts step by step: it sees every state, and somebody else may act between its actions.

    Args:
        policy: Who acts.
        executed: How many actions of a chunk are executed before it is asked again.
    """

    def __init__(self, policy: Policy, executed: int) -> None:
        self._policy, self._executed = policy, executed

    def reset(self, instruction: str, seed: int, task: Task) -> None:
        """Begin an episode."""
        spec = self._policy.spec
        self._policy.reset(instruction, seed)
        self._ages = [age * _stride(spec, task) for age in reversed(range(spec.history))]
        self._seen: deque[Observation] = deque(maxlen=self._ages[0] + 1)
        self._left: list[Array] = []

    def see(self, seen: Observation) -> None:
        """Take note of the state of now, which comes once a step."""
        self._seen.append(seen if self._policy.spec.privileged else replace(seen, state=None))

    def act(self) -> Array:
        """(A,) its action; the first observation stands in for those before the start.

        Raises:
            ConventionError: It is not of the shape that the policy declares, or no number.
        """
        if not self._left:
            spec, last = self._policy.spec, len(self._seen) - 1
            history = [self._seen[max(last - age, 0)] for age in self._ages]
            actions = np.asarray(self._policy.act(history).actions, dtype=np.float64)
            wanted = (spec.chunk_length, spec.action_size)
            if actions.shape != wanted or not np.isfinite(actions).all():
                raise ConventionError(
                    f"the policy should answer with finite numbers of shape {wanted}, got {actions.tolist()}"
                )
            self._left = list(actions[: self._executed])
        return self._left.pop(0)

    def interrupt(self) -> None:
        """Somebody else acts: what is left of the chunk does not fit any more."""
        self._left = []


def _stride(spec: PolicySpec, task: Task) -> int:
    """Steps between the observations of a history."""
    steps = spec.history_stride_s / task.policy_period_s
    if spec.history > 1 and (steps < 1 - 1e-9 or abs(steps - round(steps)) > 1e-9):
        raise ConventionError(
            f"the policy wants observations every {spec.history_stride_s} s, which is no multiple of the "
            f"policy period {task.policy_period_s} s of {task.id}"
        )
    return round(steps)
