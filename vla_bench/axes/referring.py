"""Which things of a scene have words of their own, so that a text can refer to them."""

from __future__ import annotations

from collections import Counter

from vla_bench.axes import scenery
from vla_bench.axes.lexicon import lexicon
from vla_bench.axes.phrasing import clauses
from vla_bench.bddl import Problem
from vla_bench.sim.workspaces import workspace


def described(problem: Problem, instruction: str) -> tuple[str, str] | None:
    """The first handled object that the instruction names without saying where it is, and its noun.

    It stands on the workspace itself: what is on or in a thing is nowhere else beside that thing.
    """
    words, known = lexicon(), landmarks(problem)
    bare = {what for _, what, _ in clauses(instruction, words.verbs)}
    for name in scenery.loose(problem, workspace(problem), scenery.handled(problem)):
        noun = words.noun_for(problem.objects[name], instruction)
        if name in known and noun is not None and f"the {noun}" in bare:
            return name, noun
    return None


def landmarks(problem: Problem) -> dict[str, str]:
    """Object or fixture → its noun, for those whose noun is no other thing's; the workspace is none."""
    kinds = {**problem.fixtures, **problem.objects}
    kinds.pop(workspace(problem).fixture, None)
    nouns = {name: lexicon().noun_of(kind) for name, kind in kinds.items()}
    shared = Counter(nouns.values())
    return {name: noun for name, noun in nouns.items() if noun is not None and shared[noun] == 1}
