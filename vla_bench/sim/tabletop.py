"""Built-in tabletop tasks: what their literals mean, and partial credit.

LIBERO's `on` wants origins within 30 mm, whatever the objects' size, and its `in` measures a region by the
box around it, which grows when the region is turned. Here both ask what a person would: is it supported by
that and by nothing else, is its middle within.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from vla_bench.bddl import Stage
from vla_bench.sim.predicates import Predicates, Test
from vla_bench.types import Array, Predicate

_FLOOR_M = 0.01  # what lies on the bottom of a region may sink in that far


class TabletopPredicates(Predicates):
    """Literals of built-in workspaces; those that are not here mean the same everywhere."""

    def _on(self, literal: Predicate, name: str, target: str) -> Test:
        """`name` touches what carries it, and not the workspace; its middle is above and within.

        Within an object: nearer to its middle than its horizontal radius. Within a region: inside its box,
        seen from above, and up to 10 cm higher.
        """
        site = self._scene.sites.get(target)
        pos = self._item_pos(literal, name)
        carrier = target if site is None else site.parent
        if carrier is None:
            inside, touches = self._within(target, above=0.10), self._touching_workspace(name)
            return lambda: inside(pos) and touches()
        base = self._item_pos(literal, carrier)
        touches, stands = self._touching(name, carrier), self._touching_workspace(name)
        if site is not None:
            inside = self._within(target, above=0.10)
            return lambda: inside(pos) and touches() and not stands()
        radius = self._scene.items[carrier].radius

        def test() -> bool:
            above = pos[2] > base[2] and np.hypot(*(pos - base)[:2]) < radius
            return bool(above and touches() and not stands())

        return test

    def _in(self, literal: Predicate, name: str, target: str) -> Test:
        """The middle of `name` lies inside the box of a region."""
        if target not in self._scene.sites:
            raise self._refuse(literal, f"{target!r} is not a region")
        pos, inside = self._item_pos(literal, name), self._within(target)
        return lambda: inside(pos)

    def _within(self, region: str, above: float = 0.0) -> Callable[[Array], bool]:
        """Test of a point: inside the box of a region, in the region's own frame."""
        half, bound = np.array(self._scene.sites[region].half), self._data.site(region)
        low, high = -half - np.array([0.0, 0.0, _FLOOR_M]), half + np.array([0.0, 0.0, above])
        middle, extent = (low + high) / 2, (high - low) / 2
        pos, inverse = bound.xpos, bound.xmat.reshape(3, 3).T

        def test(point: Array) -> bool:
            return bool((np.abs(inverse @ (point - pos) - middle) < extent).all())

        return test


class StageLog:
    """Which stages of a task have been reached in this episode; a reached stage stays reached."""

    def __init__(self, stages: Sequence[Stage], predicates: Predicates) -> None:
        self._tests = {s.name: [predicates.compile(literal) for literal in s.literals] for s in stages}
        self.begin()

    def begin(self) -> None:
        """Forget the last episode."""
        self.reached: tuple[str, ...] = ()

    def see(self) -> None:
        """Test the stages that are still open."""
        if len(self.reached) < len(self._tests):
            self.reached += tuple(
                name
                for name, tests in self._tests.items()
                if name not in self.reached and all(test() for test in tests)
            )
