"""Conditions under which a factor applies to a task, by the names that factors' files use (`needs`).

Each says why a task does not meet it, or None; the BDDL problem alone decides.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from vla_bench.axes import scenery
from vla_bench.axes.factors import Factor, factors
from vla_bench.axes.lexicon import lexicon
from vla_bench.axes.referring import described, landmarks
from vla_bench.axes.texts import missing_text
from vla_bench.axes.variation import VariationError, parse
from vla_bench.bddl import Problem, read_problem
from vla_bench.errors import UnknownNameError
from vla_bench.sim.workspaces import workspace
from vla_bench.types import Task


def _table(problem: Problem) -> str | None:
    place = workspace(problem)
    return None if scenery.has_table(place) else f"{place.problem!r} happens on the floor, there is no table"


def _handled_object(problem: Problem) -> str | None:
    return None if scenery.handled(problem) else f"its goal ({_goal(problem)}) moves no object"


def _relevant_object(problem: Problem) -> str | None:
    return None if scenery.relevant(problem) else f"its goal ({_goal(problem)}) names no movable object"


def _loose_object(problem: Problem) -> str | None:
    place, names = workspace(problem), scenery.relevant(problem)
    if scenery.loose(problem, place, names):
        return None
    return _relevant_object(problem) or f"{_all(names)} on or in something else than the {place.fixture}"


def _loose_handled(problem: Problem) -> str | None:
    place, names = workspace(problem), scenery.handled(problem)
    if scenery.loose(problem, place, names):
        return None
    return _handled_object(problem) or f"{_all(names)} on or in something else than the {place.fixture}"


def _bare_object(problem: Problem) -> str | None:
    """A handled object that can be exchanged or driven around by itself."""
    place, names = workspace(problem), scenery.handled(problem)
    if scenery.bare(problem, place, names):
        return None
    if scenery.loose(problem, place, names):
        return f"{' and '.join(names)} carries something at the start"
    return _handled_object(problem) or f"{_all(names)} on or in something else than the {place.fixture}"


def _bare_receiver(problem: Problem) -> str | None:
    """A movable receiver that is named as a whole, so that another thing can take its part."""
    place, whole = workspace(problem), [p.args[1] for p in problem.goal if len(p.args) == 2]
    movable = [name for name in whole if name in problem.objects]
    if scenery.bare(problem, place, movable):
        return None
    return f"its goal ({_goal(problem)}) puts nothing on a movable object that stands bare on the workspace"


def _still_target(problem: Problem) -> str | None:
    return "its target moves already" if problem.moving else None


def _joint(problem: Problem) -> str | None:
    return None if scenery.jointed(problem) else f"its goal ({_goal(problem)}) names nothing with a joint"


def _described_by_place(problem: Problem) -> str | None:
    if described(problem, problem.language) is None:
        return f"{problem.language!r} names no object on the workspace without saying where it is"
    if len(landmarks(problem)) < 2:
        return "there is no other thing with a word of its own"
    return None


def _relative_goal(problem: Problem) -> str | None:
    high = [p for p in problem.goal if p.name == "up"]
    return f"its goal ({_goal(problem)}) is an absolute height" if high else None


REQUIREMENTS: Mapping[str, Callable[[Problem], str | None]] = {
    "table": _table,
    "handled_object": _handled_object,
    "relevant_object": _relevant_object,
    "loose_object": _loose_object,
    "loose_handled": _loose_handled,
    "bare_object": _bare_object,
    "bare_receiver": _bare_receiver,
    "still_target": _still_target,
    "joint": _joint,
    "relative_goal": _relative_goal,
    "described_by_place": _described_by_place,
}


def refusal(
    factor: Factor, task: Task, level: int | None = None, problem: Problem | None = None
) -> str | None:
    """Why a factor (at a level) does not apply to a task, None if it does.

    Raises:
        UnknownNameError: The factor's file needs a condition that does not exist.
        MissingDataError: The task's files are not there.
    """
    problem = problem or read_problem(task.bddl)
    # LIBERO's instructions are the names of its files, not what the files say
    problem = dataclasses.replace(problem, language=task.instruction)
    for name in factor.needs:
        if name not in REQUIREMENTS:
            raise UnknownNameError("condition", name, REQUIREMENTS, where=str(factor.source))
        reason = REQUIREMENTS[name](problem)
        if reason is not None:
            return reason
    return _unsaid(factor, task, level, problem) if factor.texts is not None else None


def _unsaid(factor: Factor, task: Task, level: int | None, problem: Problem) -> str | None:
    """Why a factor with texts has none for a task."""
    place, who = workspace(problem), factor.options.get("replaces")
    if who is None:
        return missing_text(factor, task, level)
    names = scenery.handled(problem) if who == "handled" else scenery.receivers(problem)
    category = problem.objects[scenery.bare(problem, place, names)[0]]
    if lexicon().noun_for(category, task.instruction) is None:
        return f"{task.instruction!r} has no word for {category!r} alone"
    return missing_text(factor, task, level, category)


def applicable(task: Task, problem: Problem | None = None) -> tuple[str, ...]:
    """Ids of all factors that apply to a task."""
    problem = problem or read_problem(task.bddl)
    return tuple(name for name, factor in factors().items() if refusal(factor, task, None, problem) is None)


def refusals(text: str, task: Task, problem: Problem | None = None) -> dict[str, str]:
    """Factor id → why it does not apply, for the factors of a variation that do not apply to a task."""
    problem = problem or read_problem(task.bddl)
    reasons = {f.id: refusal(f, task, level, problem) for f, level in parse(text)}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def check(text: str, task: Task) -> None:
    """Refuse a variation that does not apply to a task, with the reason and what does apply.

    Raises:
        UnknownNameError, VariationError: The variation is not one, or does not apply.
    """
    problem = read_problem(task.bddl)
    for name, reason in refusals(text, task, problem).items():
        what = ", ".join(applicable(task, problem))
        raise VariationError(f"{name} does not apply to {task.id}: {reason}; what applies: {what}")


def _goal(problem: Problem) -> str:
    return ", ".join(map(str, problem.goal))


def _all(names: Sequence[str]) -> str:
    return f"{' and '.join(names)} start{'s' if len(names) == 1 else ''}"
