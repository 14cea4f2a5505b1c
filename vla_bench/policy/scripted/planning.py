"""What to do next: the order of the goal's literals, from what they speak of."""

from __future__ import annotations

from collections.abc import Container

import numpy as np

from vla_bench.policy.scripted.joints import ACTUATED, is_shut
from vla_bench.types import Predicate, RegionState, WorldState

_PLACED = ("in", "on")
_CARRIED = (*_PLACED, "outof", "near")
_IN_HAND = ("held", "lifted")


def agenda(state: WorldState, feasible: Container[str]) -> list[Predicate]:
    """What is left to do, the first thing first: unsatisfied literals, or what they need before.

    Args:
        state: The world now.
        feasible: Names of the literals that can be brought about; the others are left out.
    """
    left = [literal for literal, done in zip(state.goal, state.satisfied, strict=True) if not done]
    known = [literal for literal in left if literal.name in feasible]
    return [_needed_first(state, literal) for literal in sorted(known, key=lambda g: _rank(state, g))]


def _rank(state: WorldState, literal: Predicate) -> int:
    """Joints that nothing is put into and what shall stand, then what carries other things, then the rest.

    After that comes shutting, and last what keeps the hand.
    """
    if literal.name in ACTUATED:
        passed = {g.args[1] for g in state.goal if g.name in _CARRIED}
        through = literal.name == "close" and any(
            _belongs(state, region, literal.args[0]) for region in passed
        )
        return 9 if through else 0
    if literal.name not in _CARRIED:
        return 10 if literal.name in _IN_HAND else 0
    thing, target = literal.args
    depth, seen = 1, {thing}
    # on(a, b) comes after everything that moves b.
    while target not in seen:
        seen.add(target)
        below = [g.args[1] for g in state.goal if g.name in _PLACED and g.args[0] == target]
        if not below:
            break
        depth, target = depth + 1, below[0]
    return min(depth, 8)


def _belongs(state: WorldState, region: str, name: str) -> bool:
    """Whether filling `region` needs `name` open: it is the same, or a part of that fixture inside it."""
    found = state.regions.get(region)
    return region == name or (found is not None and found.parent == name)


def _needed_first(state: WorldState, literal: Predicate) -> Predicate:
    """What brings a literal about: a drawer is opened before something goes in or comes out of it.

    What can be lifted and is open below is put over a thing, where others are put into what is open above.
    """
    region = state.regions.get(literal.args[-1])
    if literal.name not in ("in", "outof") or region is None:
        return literal
    if is_shut(state, region):
        return Predicate("open", (region.name,))
    if literal.name == "in" and _is_cover(state, region):
        return Predicate("on", (str(region.parent), literal.args[0]))
    return literal


def _is_cover(state: WorldState, region: RegionState) -> bool:
    """Whether a region belongs to a movable thing that closes it from above."""
    if region.parent is None or not state.entities[region.parent].movable:
        return False
    boxes = state.entities[region.parent].boxes
    offset = (boxes.pos - region.pos) @ region.mat
    overlies = np.all(np.abs(offset[:, :2]) < 0.5 * region.half[:2], axis=1) & (offset[:, 2] > 0.0)
    return bool(np.any(overlies & (boxes.pos[:, 2] > region.pos[2])))
