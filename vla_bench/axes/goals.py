"""Certificates of factors that talk: the goal is unchanged, or changed exactly as the factor's file declares.

A policy cannot certify these: the privileged expert reads the goal, not the words. What can be checked is
that a text names the same things as the instruction it stands for, and that a changed goal is the declared
one.
"""

from __future__ import annotations

from dataclasses import dataclass

from vla_bench.axes.factors import Factor
from vla_bench.axes.lexicon import lexicon
from vla_bench.axes.texts import prompt, substitute, variants
from vla_bench.bddl import Problem, read_problem
from vla_bench.types import Predicate, Task

_MOST_SLIPS_PER_ERROR = 2  # two letters swapped are two changed letters


@dataclass(frozen=True, slots=True)
class GoalCheck:
    """What a factor at a level does to a task's goal.

    Attributes:
        goal: What must hold.
        changed: Whether that differs from the task's goal.
        problems: What contradicts the declaration; empty certifies it.
    """

    goal: tuple[Predicate, ...]
    changed: bool
    problems: tuple[str, ...]


def check_goal(factor: Factor, level: int, task: Task, problem: Problem | None = None) -> GoalCheck:
    """Check a language or semantic factor on a task it applies to."""
    problem = problem or read_problem(task.bddl)
    if "goal" in factor.sets:
        return _declared(factor, level, task, problem)
    if factor.options.get("replaces") is not None:
        return GoalCheck(problem.goal, False, _replaced(factor, level, task, problem))
    if factor.texts is None:  # composed from the start of each episode, which tests look at
        return GoalCheck(problem.goal, False, ())
    texts = variants(factor, task.instruction, level)
    slips = factor.quantities.get("errors")
    problems = [] if texts else [f"no text for {task.instruction!r}"]
    for text in texts:
        if slips is None:
            problems += _same_things(task.instruction, text)
        elif (d := _distance(task.instruction, text)) > _MOST_SLIPS_PER_ERROR * slips.levels[
            level - 1
        ] or d == 0:
            problems.append(f"{text!r} is {d} letters from {task.instruction!r}")
    return GoalCheck(problem.goal, False, tuple(problems))


def _declared(factor: Factor, level: int, task: Task, problem: Problem) -> GoalCheck:
    """Another goal: of things that are there, different from the task's, and named by the instruction."""
    found = prompt(factor, task, level)
    if found is None:
        return GoalCheck(problem.goal, False, ("no prompt",))
    known = {*problem.objects, *problem.fixtures, *problem.regions}
    problems = [f"nothing is called {a!r}" for p in found.goal for a in p.args if a not in known]
    changed = set(found.goal) != set(problem.goal)
    if not changed:
        problems.append("the goal is the task's own")
    named = lexicon().nouns_in(found.instruction)
    for name in {p.args[0] for p in found.goal} & set(problem.objects):
        nouns = lexicon().nouns
        category = problem.objects[name]
        if not any(category in (*nouns[n].categories, *nouns[n].also) for n in named):
            problems.append(f"{found.instruction!r} does not name {name}, a {category}")
    return GoalCheck(found.goal, changed, tuple(problems))


def _replaced(factor: Factor, level: int, task: Task, problem: Problem) -> tuple[str, ...]:
    """Another category under the same name: the goal's literals stay, the instruction names the new one."""
    from vla_bench.axes.semantic import renamed

    before = {c for c in problem.objects.values() if substitute(factor, c, level)}
    said = {renamed(task.instruction, c, str(substitute(factor, c, level))) for c in before}
    return (
        () if said - {None, task.instruction} else (f"{task.instruction!r} does not name what is replaced",)
    )


def _same_things(instruction: str, text: str) -> list[str]:
    """A text names the same things as the instruction."""
    wanted, named = set(lexicon().nouns_in(instruction)), set(lexicon().nouns_in(text))
    return [] if wanted == named else [f"{text!r} names {sorted(named)}, wanted {sorted(wanted)}"]


def _distance(one: str, other: str) -> int:
    """Letters to be changed, added or left out to turn one text into the other."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, start=1):
        last, row[0] = row[0], i
        for j, b in enumerate(other, start=1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (a != b))
    return row[-1]
