"""Judges an episode: which literals hold, whether the goal counts, and partial credit."""

from __future__ import annotations

from vla_bench.bddl import Problem
from vla_bench.sim.predicates import Predicates
from vla_bench.sim.tabletop import StageLog
from vla_bench.types import Predicate, Task


class Judge:
    """Success and score of one task's episodes, after every tick.

    Attributes:
        goal: The literals whose conjunction is success.
        satisfied: Whether each of them holds.
    """

    def __init__(self, task: Task, problem: Problem, predicates: Predicates) -> None:
        self._task, self._problem, self._predicates = task, problem, predicates
        self._stage_log = StageLog(problem.stages, predicates)
        self.aim_at(problem.goal)

    def aim_at(self, goal: tuple[Predicate, ...]) -> None:
        """Judge by another goal.

        Raises:
            DataError: A literal cannot be evaluated.
        """
        self._tests = [self._predicates.compile(literal) for literal in goal]
        self.goal = goal

    def begin(self) -> None:
        """Forget the last episode and look at the first instant."""
        self._held_ticks = 0
        self._has_succeeded = False
        self._stage_log.begin()
        self.look()

    def look(self) -> None:
        """Evaluate the goal's literals now."""
        self.satisfied = tuple(test() for test in self._tests)

    def see_tick(self, *, closes_gripper: bool) -> None:
        """Look, and count for how long the goal has held; a closing gripper may be in the way."""
        self.look()
        counts = all(self.satisfied) and not (self._task.success_open_gripper and closes_gripper)
        self._held_ticks = self._held_ticks + 1 if counts else 0
        self._has_succeeded = self._has_succeeded or self.succeeded
        self._stage_log.see()

    @property
    def succeeded(self) -> bool:
        """Whether the goal held at the last tick, and for as long before as the task wants."""
        task = self._task
        if not (task.success_hold_s or task.success_open_gripper):
            return all(self.satisfied)
        return self._held_ticks > 0 and self._held_ticks * task.tick_s >= task.success_hold_s - 1e-9

    @property
    def score(self) -> float:
        """Partial credit in [0, 1].

        With stages: 1 once the goal has counted, 0.5 once a stage has been reached. Without: the share of the
        goal's literals that hold.
        """
        if self._is_staged:
            return 1.0 if self._has_succeeded else 0.5 * bool(self._stage_log.reached)
        return sum(self.satisfied) / len(self.satisfied)

    @property
    def stages(self) -> tuple[str, ...]:
        """Named stages that have been reached in this episode; without stages, the literals that hold."""
        if self._is_staged:
            return self._stage_log.reached
        return tuple(str(p) for p, done in zip(self.goal, self.satisfied, strict=True) if done)

    @property
    def _is_staged(self) -> bool:
        """Whether partial credit is that of the task's file; another goal has none."""
        return bool(self._problem.stages) and self.goal == self._problem.goal
