"""What skills share that push with closed fingers along a line: go to its start, push, open, back off."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from vla_bench.policy.scripted.geometry import UP
from vla_bench.policy.scripted.motion import CLOSE, OPEN, Motion, Pose, approach, clearance
from vla_bench.policy.scripted.skill import Skill
from vla_bench.policy.scripted.world import World

_SPEED = 0.7
_PATIENCE_S = 4.0


class Stroke(Skill):
    """Pushes along a line until the thing goes on by itself, the end is reached, or it lasts too long.

    Attributes:
        retreat_s: For how long the hand backs off before something else begins.
    """

    retreat_s: float

    @abstractmethod
    def _way(self, world: World) -> tuple[Pose, Pose]:
        """Where the push begins, and where it ends at the latest."""

    @abstractmethod
    def _goes_on(self, world: World) -> bool:
        """Whether the thing needs no more pushing."""

    def _begin(self, world: World) -> Motion | None:
        if self._satisfied(world):
            return None
        self._start, self._end = self._way(world)
        return self._enter(self._approach, world)

    def _approach(self, world: World) -> Motion | None:
        state = world.state
        if self._satisfied(world):
            return None
        distance, angle = self._start.error(state)
        if distance < 0.015 and angle < 0.12:
            return self._enter(self._push, world)
        if self._stalled(world, distance + 0.1 * angle):
            return self._let_go(world)
        over = clearance(state.grip_pos, self._start.pos, world.others(), np.zeros((0, 3)))
        return Motion(approach(self._start, state, over, self._arm), CLOSE)

    def _push(self, world: World) -> Motion | None:
        distance = self._end.error(world.state)[0]
        if self._goes_on(world) or distance < 0.01 or self._elapsed_s(world) > _PATIENCE_S:
            return self._let_go(world)
        return Motion(self._end, CLOSE, speed=_SPEED)

    def _let_go(self, world: World) -> Motion | None:
        state = world.state
        self._retreat_to = Pose(state.grip_pos + 0.08 * UP, state.grip_mat)
        return self._enter(self._retreat, world)

    def _retreat(self, world: World) -> Motion | None:
        return None if self._elapsed_s(world) > self.retreat_s else Motion(self._retreat_to, OPEN)
