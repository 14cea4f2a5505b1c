"""What the robot is told while no fresh action is there: the suite says it, for it depends on the robot."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from vla_bench.errors import ConventionError
from vla_bench.types import Array, StaleRule, Task

# An arm has six numbers of motion and one of its gripper.
ARM, GRIPPER = 7, 6


def goal(last: Array | None, settled: Array) -> Array | None:
    """Nothing: the controller keeps its last absolute goal, which is more than being told not to move."""
    return None


def null(last: Array | None, settled: Array) -> Array | None:
    """No motion, and the gripper as it was: a new goal where the arm is now."""
    command = np.zeros_like(settled)
    command[GRIPPER::ARM] = (settled if last is None else last)[GRIPPER::ARM]
    return command


def repeat(last: Array | None, settled: Array) -> Array | None:
    """The last motion once more; before the first there is nothing to repeat."""
    return last


STALE_RULES: Mapping[StaleRule, Callable[[Array | None, Array], Array | None]] = {
    "goal": goal,
    "null": null,
    "repeat": repeat,
}


def stale_rule(task: Task) -> Callable[[Array | None, Array], Array | None]:
    """The rule of a task's suite: (last command, command of settling) → command of a stale period.

    Raises:
        ConventionError: The suite declares none, and none is safe to assume; or its commands do not fit it.
    """
    if task.stale is None:
        raise ConventionError(undeclared(task.suite))
    if task.stale != "goal" and task.action_convention != "delta_pose":
        raise ConventionError(
            f"suite {task.suite!r} has stale = {task.stale!r}, which is known for 'delta_pose' commands; its "
            f"commands are {task.action_convention!r}"
        )
    return STALE_RULES[task.stale]


def undeclared(suite: str) -> str:
    """What to say where a suite has no rule."""
    rules = ", ".join(repr(rule) for rule in STALE_RULES)
    return (
        f"suite {suite!r} does not say what its robot does while no fresh action is there; "
        f"set stale to one of {rules} in its table, or use the pacing 'blocking'"
    )
