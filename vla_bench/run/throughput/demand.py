"""Demand: how many observations so many simulators hand to a policy in a second, if it answers at once."""

from __future__ import annotations

import itertools
import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from statistics import median

from vla_bench.errors import MissingCapabilityError, VlaBenchError
from vla_bench.policy.base import PolicySpec
from vla_bench.run.conventions import observe
from vla_bench.run.executors.memory import require_memory
from vla_bench.run.plan import WorkItem
from vla_bench.run.rollout import Rollout, play
from vla_bench.run.throughput.free import Free
from vla_bench.spawning import leave_signals_to_main, one_thread_each
from vla_bench.types import ActionChunk, Observation


@dataclass(frozen=True, slots=True)
class Look:
    """What is stepped, and what is looked at.

    Attributes:
        items: Episodes of one task, which are played in turn.
        spec: What the policy is shown.
        chunk_executed: Actions between two observations.
    """

    items: Sequence[WorkItem]
    spec: PolicySpec
    chunk_executed: int = 1


@dataclass(frozen=True, slots=True)
class Demand:
    """What so many simulators ask for.

    Attributes:
        workers: Simulators side by side.
        requests_per_s: Observations of all of them in a second, each with the steps that follow it; median
            over rounds. The beginnings of episodes are not in it.
        ratio: Median over rounds of this rate / that of the fewest workers in the same round.
    """

    workers: int
    requests_per_s: float
    ratio: float


@dataclass(frozen=True, slots=True)
class Ready:
    """A simulator has observed for the first time.

    Attributes:
        history: What its policy was shown.
        start_s: What the beginning of its episode took.
    """

    history: Sequence[Observation]
    start_s: float


@dataclass(frozen=True, slots=True)
class Turn:
    """What a simulator did in its turn.

    Attributes:
        requests: Answers that it asked for.
        spent_s: What that took, beginnings of episodes not counted.
        starts_s: What each beginning of an episode took: reset, settling, first observation.
    """

    requests: int
    spent_s: float
    starts_s: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Demands:
    """What was found out about the simulators of a task.

    Attributes:
        by_workers: Ascending.
        start_s: Median time that the beginning of an episode takes.
        history: A real observation, for those who time the policy.
    """

    by_workers: tuple[Demand, ...]
    start_s: float
    history: Sequence[Observation]


def measure_demand(look: Look, workers: Sequence[int], *, rounds: int, turn_s: float) -> Demands:
    """Let 1, 2, … simulators play the task in turns, with a policy that costs nothing.

    Args:
        look: What they play.
        workers: How many side by side, each number once a round.
        rounds: How often.
        turn_s: How long a turn is.

    Raises:
        MissingCapabilityError: Memory does not hold so many.
        VlaBenchError: The task cannot be played.
    """
    sizes = sorted(set(workers))
    require_memory(sizes[-1])
    rates: dict[int, list[float]] = {size: [] for size in sizes}
    with _Crowd(look, sizes[-1]) as crowd:
        starts = [crowd.ready.start_s]
        for _ in range(rounds):
            for size in sizes:
                turns = crowd.turn(size, turn_s)
                rates[size].append(sum(turn.requests / turn.spent_s for turn in turns))
                starts += [each for turn in turns for each in turn.starts_s]
    first = rates[sizes[0]]
    by_workers = (
        Demand(size, median(rates[size]), median(b / a for a, b in zip(first, rates[size], strict=True)))
        for size in sizes
    )
    return Demands(tuple(by_workers), median(starts), crowd.ready.history)


class _Crowd:
    """Simulators in processes of their own, which play when they are told to; a context."""

    def __init__(self, look: Look, count: int) -> None:
        one_thread_each()
        context = multiprocessing.get_context("spawn")
        self._ends: list[Connection] = []
        self._processes = []
        for number in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_work, args=(theirs, look, number), name=f"simulator {number}", daemon=True
            )
            process.start()
            theirs.close()
            self._ends.append(ours)
            self._processes.append(process)
        self.ready: Ready

    def __enter__(self) -> _Crowd:
        try:
            for end in self._ends:
                ready = self._hear(end)
                assert isinstance(ready, Ready)
                self.ready = ready
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process, end in zip(self._processes, self._ends, strict=True):
            process.kill()
            process.join()
            end.close()

    def turn(self, count: int, turn_s: float) -> list[Turn]:
        """Let the first `count` of them play side by side."""
        for end in self._ends[:count]:
            end.send(turn_s)
        turns = [self._hear(end) for end in self._ends[:count]]
        return [turn for turn in turns if isinstance(turn, Turn)]

    @staticmethod
    def _hear(end: Connection) -> Ready | Turn:
        try:
            heard = end.recv()
        except EOFError:
            raise MissingCapabilityError("a simulator's process ended while it was timed") from None
        if isinstance(heard, VlaBenchError):
            raise heard
        return heard


class _Gate(Free):
    """Answers at once while its turn lasts, then reports and waits for the next one."""

    def open(self, connection: Connection) -> None:
        """Report to `connection`."""
        self._connection = connection
        self._until = self._began = 0.0
        self._requests = 0
        self._starts: list[float] = []
        self._start_began: float | None = None

    def begin_episode(self) -> None:
        """What follows until the first question is the beginning of an episode."""
        self._start_began = time.perf_counter()

    def act(self, observations: Sequence[Observation]) -> ActionChunk:
        """Return a chunk that does nothing."""
        now = time.perf_counter()
        if not self._until:
            assert self._start_began is not None
            self._connection.send(Ready(observations, now - self._start_began))
            self._wait()
        else:
            self._count(now)
            if now >= self._until:
                spent_s = now - self._began
                self._connection.send(Turn(self._requests, spent_s, tuple(self._starts)))
                self._wait()
        self._start_began = None
        return super().act(observations)

    def _count(self, now: float) -> None:
        """Count a request; the beginning of an episode moves the clock instead."""
        if self._start_began is None:
            self._requests += 1
            return
        start_s = now - self._start_began
        self._starts.append(start_s)
        self._began += start_s
        self._until += start_s

    def _wait(self) -> None:
        turn_s = self._connection.recv()
        self._began = time.perf_counter()
        self._until = self._began + turn_s
        self._requests, self._starts = 0, []


def _work(connection: Connection, look: Look, number: int) -> None:
    """The main function of a simulator's process; it ends with the one that started it."""
    from vla_bench.axes.simulation import open_simulation

    leave_signals_to_main()
    try:
        simulation = open_simulation(look.items[0].task())
        simulation.reset(look.items[0].episode)
        gate = _Gate(look.spec, simulation)
        observe(simulation, gate)  # graphics are set up once, which is no beginning of an episode
        gate.open(connection)
        for index in itertools.count(number):
            gate.begin_episode()
            run = Rollout(simulation, gate, look.chunk_executed)
            outcome = play(run, look.items[index % len(look.items)].episode, "blocking", 0)
            if outcome["status"] == "error":
                raise VlaBenchError(outcome["error"].message)
    except VlaBenchError as error:
        connection.send(error)
    except (EOFError, BrokenPipeError):
        return
