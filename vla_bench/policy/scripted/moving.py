"""Skill: bring a thing where `in`, `on`, `near` or `outof` wants it."""

from __future__ import annotations

import numpy as np

from vla_bench.policy.scripted import gripper
from vla_bench.policy.scripted.arm import Arm
from vla_bench.policy.scripted.geometry import UP, angle_between
from vla_bench.policy.scripted.motion import CLOSE, OPEN, Motion, Pose, approach, clearance
from vla_bench.policy.scripted.placing import Place, find_place
from vla_bench.policy.scripted.taking import Taking
from vla_bench.policy.scripted.world import World
from vla_bench.types import Array, Predicate


class Moving(Taking):
    """Takes a thing, carries it, lets it go; starts again from wherever it finds itself.

    The literal is `in(thing, region)`, `outof(thing, region)`, `on(thing, region)`, `on(thing, thing)` or
    `near(thing, thing)`.
    """

    def __init__(self, literal: Predicate, arm: Arm) -> None:
        super().__init__(literal, arm)
        self._place: Place | None = None
        self._jams = 0

    def _taken(self, world: World) -> Motion | None:
        self._jams, self._place = 0, None
        return self._enter(self._carry, world)

    def _carry(self, world: World) -> Motion | None:
        state = world.state
        # Once held, a thing that has shifted between the fingers is still held.
        if not self._held(world, slack=0.010):
            return self._give_up(world)
        if self._place is None:
            self._place = find_place(world, self.literal, self._hand(world), self._arm)
        goal = self._place.grip(world, self._name)
        distance, angle = goal.error(state)
        aside = float(np.linalg.norm((goal.pos - state.grip_pos)[:2]))
        if self._stalled(world, distance + 0.1 * angle):
            # Something is in the way: think again from here, then let go here.
            self._jams, self._place = self._jams + 1, None
            self._restart_progress(world)
        if (aside < 0.006 and distance < 0.012 and angle < 0.08) or self._jams > 1:
            return self._enter(self._release, world)
        load = world.points(self._name) - state.grip_pos
        over = clearance(state.grip_pos, goal.pos, world.others(self._name), load)
        return Motion(approach(goal, state, over, self._arm), CLOSE)

    def _hand(self, world: World) -> Array:
        """Orientation of the hand that puts the thing as it stood, unless it has slipped a long way since."""
        now = world.state.grip_mat
        if self._hold is None:
            return now
        then = world.entity(self._name).mat @ self._hold.mat
        return then if angle_between(then, now) < 0.7 else now

    def _release(self, world: World) -> Motion | None:
        state, elapsed = world.state, self._elapsed_s(world)
        if elapsed > 1.4:
            return None
        if gripper.half_opening(state.gripper_qpos) < 0.036 and elapsed < 0.8:
            return self._open_here(world)
        return Motion(Pose(state.grip_pos + 0.03 * UP, state.grip_mat), OPEN)
