"""Questions about a task that its BDDL problem alone answers: what is handled, where it stands, what moves.

Nothing here needs a model. Categories and workspaces are looked up, so LIBERO's problems need its data.
"""

from __future__ import annotations

from collections.abc import Iterable

from vla_bench.bddl import Problem, Region
from vla_bench.sim import categories
from vla_bench.sim.workspaces import Workspace

_TABLE_HEIGHT_M = 0.1  # a surface below this is the floor


def handled(problem: Problem) -> tuple[str, ...]:
    """Objects that the goal wants moved, each once, in the goal's order."""
    return tuple(dict.fromkeys(p.args[0] for p in problem.goal if p.args[0] in problem.objects))


def receivers(problem: Problem) -> tuple[str, ...]:
    """Objects and fixtures that handled objects shall come to, each once."""
    found = [owner(problem, p.args[1]) for p in problem.goal if len(p.args) == 2]
    return tuple(dict.fromkeys(name for name in found if name in problem.objects or name in problem.fixtures))


def relevant(problem: Problem) -> tuple[str, ...]:
    """Movable objects that the goal names: handled ones, then receivers."""
    named = (*handled(problem), *receivers(problem))
    return tuple(dict.fromkeys(name for name in named if name in problem.objects))


def bystanders(problem: Problem) -> tuple[str, ...]:
    """Movable objects that the goal does not name."""
    return tuple(name for name in problem.objects if name not in relevant(problem))


def owner(problem: Problem, name: str) -> str:
    """The object, fixture or workspace that a name of a literal belongs to."""
    region = problem.regions.get(name)
    return name if region is None else region.target


def starting_region(problem: Problem, place: Workspace, name: str) -> Region | None:
    """The region of the workspace in which an object starts, None where it starts on or in something else."""
    for literal in problem.init:
        if literal.name in ("on", "in") and literal.args[0] == name:
            region = problem.regions.get(literal.args[1])
            if region is not None and region.target == place.fixture:
                return region
    return None


def riders(problem: Problem, name: str) -> tuple[str, ...]:
    """Objects that start on or in an object, directly or on one another."""
    found: list[str] = []
    carriers = [name]
    while carriers:
        carrier = carriers.pop()
        for literal in problem.init:
            if literal.name in ("on", "in") and owner(problem, literal.args[1]) == carrier:
                found.append(literal.args[0])
                carriers.append(literal.args[0])
    return tuple(found)


def loose(problem: Problem, place: Workspace, names: Iterable[str]) -> tuple[str, ...]:
    """Those that start on the workspace itself, so that they can be put elsewhere."""
    return tuple(name for name in names if starting_region(problem, place, name) is not None)


def bare(problem: Problem, place: Workspace, names: Iterable[str]) -> tuple[str, ...]:
    """Those that start on the workspace and carry nothing."""
    return tuple(name for name in loose(problem, place, names) if not riders(problem, name))


def jointed(problem: Problem) -> tuple[str, ...]:
    """Fixtures of the goal that have joints."""
    named = dict.fromkeys(owner(problem, arg) for p in problem.goal for arg in p.args)
    return tuple(
        name
        for name in named
        if name in problem.fixtures
        and name in problem.lines
        and not _is_workspace(problem, name)
        and categories.find(problem.fixtures[name]).articulation is not None
    )


def _is_workspace(problem: Problem, name: str) -> bool:
    from vla_bench.sim.workspaces import workspace

    return name == workspace(problem).fixture


def has_table(place: Workspace) -> bool:
    """Whether the workspace's surface stands above the floor."""
    return place.offset[2] > _TABLE_HEIGHT_M
